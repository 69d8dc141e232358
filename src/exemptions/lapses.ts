/** Exemptions that end: which of them are to be announced now. Pure; the clock is passed in. */

export interface Ending {
  readonly name: string
  /** Milliseconds since the epoch. */
  readonly expires: number
}

export interface Lapse<E extends Ending> {
  readonly exemption: E
  /** How long before its end it is announced, in milliseconds, as configured; 0: it has ended. */
  readonly lead: number
}

/** What was announced of each end, by `endKey`: the shortest lead. */
export type Announced = ReadonlyMap<string, number>

/** An end: with another time it is another one, and announced anew. */
export function endKey({ name, expires }: Ending): string {
  return `${expires} ${name}`
}

/**
 * At most one announcement for each exemption: of all leads that have been reached, the shortest, unless it or a
 * shorter one was announced. `now` and `leads` in milliseconds, in any order; the soonest end first.
 */
export function lapsesDue<E extends Ending>(
  exemptions: readonly E[],
  announced: Announced,
  now: number,
  leads: readonly number[],
): Lapse<E>[] {
  const ascending = [0, ...leads].sort((a, b) => a - b)
  const due: Lapse<E>[] = []
  for (const exemption of exemptions) {
    const lead = ascending.find((one) => exemption.expires - now <= one)
    if (lead === undefined) continue
    if (lead < (announced.get(endKey(exemption)) ?? Number.POSITIVE_INFINITY)) due.push({ exemption, lead })
  }
  return due.sort((a, b) => a.exemption.expires - b.exemption.expires)
}

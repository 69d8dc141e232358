/** Which incidents still last, and should be told of again: after one interval, after two … Pure. */
import type { Incident } from '../../detect/incident.ts'

export interface Reminder {
  readonly incident: Incident
  /** After so many intervals. */
  readonly number: number
}

/**
 * At most one for each incident, and each number once: `told` has the latest of each. Times and the interval in
 * milliseconds.
 */
export function remindersDue(
  open: readonly Incident[],
  interval: number,
  told: ReadonlyMap<string, number>,
  now: number,
): Reminder[] {
  return open.flatMap((incident) => {
    const number = intervalsOf(incident, interval, now)
    return number > (told.get(incident.id) ?? 0) ? [{ incident, number }] : []
  })
}

/** How many intervals an incident has lasted, since it was opened for the first time. */
export function intervalsOf(
  { firstSeen }: Pick<Incident, 'firstSeen'>,
  interval: number,
  now: number,
): number {
  return Math.floor((now - firstSeen) / interval)
}

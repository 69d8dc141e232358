// Alternating rounds: what else the machine does in the meantime then weighs on all alike.

/** One measuring of each of several things. */
export type Round<Name extends string> = Readonly<Record<Name, () => Promise<number>>>

/** Measures all of them so many times in turn, in another order each round; the numbers in the order of the rounds. */
export async function alternate<Name extends string>(
  rounds: number,
  round: Round<Name>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(round) as Name[]
  const found = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, number[]>
  for (let count = 0; count < rounds; count++) {
    for (const name of names) found[name].push(await round[name]())
    const first = names.shift()
    if (first !== undefined) names.push(first)
  }
  return found
}

/** How many times as much one took as the other, round by round. */
export function ratios(ours: readonly number[], reference: readonly number[]): number[] {
  return ours.map((value, index) => value / (reference[index] ?? Number.NaN))
}

/** The value below which the given share (0 to 1) of the values lies; 0.5 is the median. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN]
  return low + (high - low) * (at - Math.floor(at))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** Median and quartiles, as a figure has them. */
export function summary(values: readonly number[]) {
  return {
    result: median(values),
    spread: { from: quantile(values, 0.25), to: quantile(values, 0.75) },
    rounds: values.length,
  }
}

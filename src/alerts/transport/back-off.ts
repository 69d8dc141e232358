/** How long to wait before the next try. */
const FIRST = 500
const LONGEST = 300_000

/** Milliseconds: doubles with each failure; a random part keeps many gateways from knocking at the same moment. */
export function pauseAfter(failures: number, random: () => number): number {
  const longest = Math.min(FIRST * 2 ** Math.max(0, failures - 1), LONGEST)
  return Math.round(longest * (0.5 + random() / 2))
}

/** Numbers that look random and are the same for the same seed. */

export interface Random {
  /** From 0 to below 1. */
  next(): number
  /** A whole number of both bounds or between. */
  between(least: number, most: number): number
  /** Exponential, with this mean: the gaps between what happens independently. */
  gap(mean: number): number
  pick<T>(from: readonly T[]): T
  /** Another generator, whose numbers do not depend on how many of ours were used. */
  fork(name: string): Random
}

/** mulberry32 (Tommy Ettinger), good enough for traffic and short enough to read. */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const self: Random = {
    next,
    between: (least, most) => least + Math.floor(next() * (most - least + 1)),
    gap: (mean) => -Math.log(1 - next()) * mean,
    pick: (from) => from[Math.floor(next() * from.length)] as (typeof from)[number],
    fork: (name) => {
      let hash = seed >>> 0
      for (const letter of name) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193)
      return seeded(hash)
    },
  }
  return self
}

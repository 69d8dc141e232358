/** A range of addresses as the fewest prefixes. */
import { addressBits, type Family, type Prefix } from '../policy/prefix.ts'

/** The prefixes that together are exactly the addresses from the first to the last, in their order. */
export function* prefixesOf(
  family: Family,
  first: number | bigint,
  last: number | bigint,
): Generator<Prefix> {
  const bits = addressBits(family)
  const end = BigInt(last)
  for (let start = BigInt(first); start <= end; ) {
    // As wide as the start is aligned and the end allows.
    let width = 0
    while (width < bits && (start >> BigInt(width)) % 2n === 0n && start + (2n << BigInt(width)) - 1n <= end)
      width++
    const length = bits - width
    yield family === 4 ? { family, address: Number(start), length } : { family, address: start, length }
    start += 1n << BigInt(width)
  }
}

/**
 * Sets of addresses of one family, as sorted ranges that neither overlap nor touch. Rules speak of ranges, negations
 * and remainders; policies of prefixes: this is the arithmetic between them.
 */
import { addressBits, type Family, formatPrefix, type Prefix, parsePrefix } from '../policy/prefix.ts'

/** Both ends belong to it. */
export interface Range {
  readonly first: bigint
  readonly last: bigint
}

export type Ranges = readonly Range[]

/** The addresses of both families that a condition holds for. */
export interface Space {
  readonly 4: Ranges
  readonly 6: Ranges
}

export const NONE: Ranges = Object.freeze([])
const ALL_4: Ranges = Object.freeze([{ first: 0n, last: (1n << 32n) - 1n }])
const ALL_6: Ranges = Object.freeze([{ first: 0n, last: (1n << 128n) - 1n }])

export function everything(family: Family): Ranges {
  return family === 4 ? ALL_4 : ALL_6
}

export function isEverything(family: Family, ranges: Ranges): boolean {
  const [all] = everything(family)
  return ranges.length === 1 && ranges[0]?.first === all?.first && ranges[0]?.last === all?.last
}

export const EVERYWHERE: Space = Object.freeze({ 4: ALL_4, 6: ALL_6 })
export const NOWHERE: Space = Object.freeze({ 4: NONE, 6: NONE })

/** Sorted, and merged where ranges overlap or touch. */
export function normalise(ranges: readonly Range[]): Ranges {
  if (ranges.length < 2) return ranges
  const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
  const merged: { first: bigint; last: bigint }[] = []
  for (const { first, last } of sorted) {
    const before = merged.at(-1)
    if (before === undefined || first > before.last + 1n) merged.push({ first, last })
    else if (last > before.last) before.last = last
  }
  return merged
}

export function union(a: Ranges, b: Ranges): Ranges {
  if (a.length === 0) return b
  return b.length === 0 ? a : normalise([...a, ...b])
}

export function intersect(a: Ranges, b: Ranges): Ranges {
  // The shorter one says where to look in the longer: thousands of rules each cut a little out of much.
  const [few, many] = a.length <= b.length ? [a, b] : [b, a]
  const [outer, low, high] = [few[0], many[0], many.at(-1)]
  if (outer === undefined || low === undefined || high === undefined) return NONE
  if (few.length === 1 && outer.first <= low.first && outer.last >= high.last) return many
  const found: Range[] = []
  for (const { first, last } of few) {
    for (let i = firstReaching(many, first); i < many.length; i++) {
      const other = many[i]!
      if (other.first > last) break
      found.push({
        first: other.first > first ? other.first : first,
        last: other.last < last ? other.last : last,
      })
    }
  }
  return found
}

/** What of `a` is not in `b`. */
export function subtract(a: Ranges, b: Ranges): Ranges {
  const [low, high] = [b[0]?.first, b.at(-1)?.last]
  if (low === undefined || high === undefined || a.length === 0) return a
  const from = firstReaching(a, low)
  if (from === a.length || a[from]!.first > high) return a
  const rest: Range[] = []
  let at = from
  let other = firstReaching(b, a[from]!.first)
  for (; at < a.length && a[at]!.first <= high; at++) {
    let { first } = a[at]!
    const { last } = a[at]!
    while (other < b.length && b[other]!.last < first) other++
    for (let i = other; first <= last && i < b.length && b[i]!.first <= last; i++) {
      if (b[i]!.first > first) rest.push({ first, last: b[i]!.first - 1n })
      if (b[i]!.last + 1n > first) first = b[i]!.last + 1n
    }
    if (first <= last) rest.push({ first, last })
  }
  return a.slice(0, from).concat(rest, a.slice(at))
}

/** The addresses of the family outside the ranges. */
export function complement(family: Family, ranges: Ranges): Ranges {
  return subtract(everything(family), ranges)
}

export function equal(a: Ranges, b: Ranges): boolean {
  return (
    a === b ||
    (a.length === b.length && a.every(({ first, last }, i) => first === b[i]?.first && last === b[i]?.last))
  )
}

export function includes(ranges: Ranges, address: bigint): boolean {
  const range = ranges[firstReaching(ranges, address)]
  return range !== undefined && range.first <= address
}

/** How many addresses there are. */
export function size(ranges: Ranges): bigint {
  return ranges.reduce((sum, { first, last }) => sum + last - first + 1n, 0n)
}

/** The first range that ends at the address or behind it. */
function firstReaching(ranges: Ranges, address: bigint): number {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (ranges[middle]!.last < address) low = middle + 1
    else high = middle
  }
  return low
}

export function rangeOf(prefix: Prefix): Range {
  const first = BigInt(prefix.address)
  return { first, last: first + (1n << BigInt(addressBits(prefix.family) - prefix.length)) - 1n }
}

/** The fewest prefixes that make up the ranges, in order. */
export function prefixesOf(family: Family, ranges: Ranges): Prefix[] {
  const bits = BigInt(addressBits(family))
  const prefixes: Prefix[] = []
  for (const { first, last } of ranges) {
    for (let at = first; at <= last; ) {
      // As long as the address is a multiple of the size and the prefix ends within the range.
      let host = 0n
      while (host < bits && (at & ((1n << (host + 1n)) - 1n)) === 0n && at + (1n << (host + 1n)) - 1n <= last)
        host++
      const length = Number(bits - host)
      const prefix: Prefix =
        family === 4 ? { family, address: Number(at), length } : { family, address: at, length }
      // IPv4-mapped IPv6 addresses are never on a wire, and policies do not take them.
      if (typeof parsePrefix(formatPrefix(prefix)) !== 'string') prefixes.push(prefix)
      at += 1n << host
    }
  }
  return prefixes
}

/** A single address of a family. */
export function addressOf(family: Family, value: bigint): Prefix {
  return family === 4
    ? { family, address: Number(value), length: 32 }
    : { family, address: value, length: 128 }
}

/**
 * Many prefixes as sorted numbers, an array for each length: a million IPv4 prefixes take 4 MB, and are shared by all
 * documents that name their list. A look-up asks each length in use, as the kernel does.
 */
import { addressBits, type Family, mask4, mask6, type Prefix } from './prefix.ts'

export type Address = number | bigint

/** Ascending and distinct. */
export type Addresses = Uint32Array | readonly bigint[]

/** The prefixes of one length; never empty. */
export interface PrefixPart {
  readonly family: Family
  readonly length: number
  readonly addresses: Addresses
}

export class PrefixSet implements Iterable<Prefix> {
  /** The longest first. Of a union there may be several of one length, which may overlap. */
  readonly parts: readonly PrefixPart[]
  /** How many prefixes; those that a union has twice count twice. */
  readonly size: number

  private constructor(parts: readonly PrefixPart[]) {
    this.parts = Object.freeze([...parts].sort((a, b) => a.family - b.family || b.length - a.length))
    this.size = parts.reduce((sum, { addresses }) => sum + addresses.length, 0)
    Object.freeze(this)
  }

  static of(prefixes: Iterable<Prefix>): PrefixSet {
    const builder = new PrefixSetBuilder()
    for (const prefix of prefixes) builder.add(prefix)
    return builder.finish()
  }

  /** Shares what the sets have; a single set stays itself. */
  static union(sets: readonly PrefixSet[]): PrefixSet {
    const [only] = sets
    return only !== undefined && sets.length === 1 ? only : new PrefixSet(sets.flatMap(({ parts }) => parts))
  }

  /** Only for builders: the parts must be sorted, distinct and not empty. */
  static fromParts(parts: readonly PrefixPart[]): PrefixSet {
    return new PrefixSet(parts)
  }

  /** In no order that means anything. */
  *[Symbol.iterator](): Generator<Prefix> {
    for (const { family, length, addresses } of this.parts) {
      for (const address of addresses) yield { family, address, length } as Prefix
    }
  }

  /** Whether both have the same prefixes. */
  equals(other: PrefixSet): boolean {
    if (this === other) return true
    return this.every((prefix) => other.has(prefix)) && other.every((prefix) => this.has(prefix))
  }

  /** The first that passes, or null. */
  find(passes: (prefix: Prefix) => boolean): Prefix | null {
    for (const prefix of this) if (passes(prefix)) return prefix
    return null
  }

  some(passes: (prefix: Prefix) => boolean): boolean {
    return this.find(passes) !== null
  }

  every(passes: (prefix: Prefix) => boolean): boolean {
    return this.find((prefix) => !passes(prefix)) === null
  }

  /** Whether this very prefix is one of them. */
  has({ family, length, address }: Prefix): boolean {
    return this.parts.some(
      (part) => part.family === family && part.length === length && holds(part.addresses, address),
    )
  }

  /** Whether one of the prefixes contains the other prefix, or address. */
  contains(prefix: Prefix): boolean {
    return this.longestMatch(prefix) !== null
  }

  /** The longest of the prefixes that contain the other prefix, or address. */
  longestMatch(prefix: Prefix): Prefix | null {
    for (const { family, length, addresses } of this.parts) {
      if (family !== prefix.family || length > prefix.length) continue
      const address =
        prefix.family === 4 ? (prefix.address & mask4(length)) >>> 0 : prefix.address & mask6(length)
      if (holds(addresses, address)) return { family, address, length } as Prefix
    }
    return null
  }
}

/** Takes prefixes one by one, in any order and any number of times. */
export class PrefixSetBuilder {
  readonly #four: (Uint32Buffer | undefined)[] = []
  readonly #six: (bigint[] | undefined)[] = []

  add(prefix: Prefix): void {
    if (prefix.family === 4) {
      this.#four[prefix.length] ??= new Uint32Buffer()
      this.#four[prefix.length]?.push(prefix.address)
    } else {
      this.#six[prefix.length] ??= []
      this.#six[prefix.length]?.push(prefix.address)
    }
  }

  finish(): PrefixSet {
    const parts: PrefixPart[] = []
    for (let length = 0; length <= addressBits(6); length++) {
      const four = this.#four[length]
      const six = this.#six[length]
      if (four !== undefined) parts.push({ family: 4, length, addresses: distinct4(four.values().sort()) })
      if (six !== undefined) parts.push({ family: 6, length, addresses: distinct6(six.sort(compare)) })
    }
    return PrefixSet.fromParts(parts)
  }
}

/** How many of the ascending values are not above the given one. */
export function rankOf(values: ArrayLike<Address>, value: Address): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((values[middle] ?? 0) <= value) low = middle + 1
    else high = middle
  }
  return low
}

/** Whether the value is one of the ascending values. */
export function holds(values: ArrayLike<Address>, value: Address): boolean {
  return values[rankOf(values, value) - 1] === value
}

/** Of sorted numbers each once; the same array when there is nothing to leave out. */
export function distinct4(sorted: Uint32Array): Uint32Array {
  let length = 0
  for (const value of sorted) {
    if (length === 0 || sorted[length - 1] !== value) sorted[length++] = value
  }
  return length === sorted.length ? sorted : sorted.slice(0, length)
}

/** Of sorted bigints each once. No Set: V8 hashes their lowest 64 bits alone, which are zero in IPv6 networks. */
export function distinct6(sorted: readonly bigint[]): bigint[] {
  return sorted.filter((value, index) => index === 0 || sorted[index - 1] !== value)
}

export function compare(a: Address, b: Address): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** A growing array of 32-bit numbers. */
class Uint32Buffer {
  #values = new Uint32Array(4)
  #length = 0

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Uint32Array(this.#length * 2)
      larger.set(this.#values)
      this.#values = larger
    }
    this.#values[this.#length++] = value
  }

  /** A copy of just the right length. */
  values(): Uint32Array {
    return this.#values.slice(0, this.#length)
  }
}

/**
 * Prefixes merged into disjoint ranges of addresses, to ask of many prefixes at once whether they hold or touch
 * another: what a reader of the policies would see at a glance, at a million prefixes.
 */
import { addressBits, type Family, mask4, mask6, type Prefix } from './prefix.ts'
import { type Address, type PrefixSet, rankOf } from './prefix-set.ts'

interface Ranges {
  readonly first: ArrayLike<Address>
  readonly last: ArrayLike<Address>
}

const EMPTY: Ranges = { first: [], last: [] }

/** Lists are shared by the documents that name them; so is the work of merging them. */
const KNOWN = new WeakMap<PrefixSet, AddressRanges>()

export class AddressRanges {
  readonly #four: Ranges
  readonly #six: Ranges

  private constructor(prefixes: PrefixSet) {
    this.#four = merge4(prefixes)
    this.#six = merge6(prefixes)
  }

  static of(prefixes: PrefixSet): AddressRanges {
    let ranges = KNOWN.get(prefixes)
    if (ranges === undefined) {
      ranges = new AddressRanges(prefixes)
      KNOWN.set(prefixes, ranges)
    }
    return ranges
  }

  /** Whether every address of the prefix is in one of the prefixes. */
  covers(prefix: Prefix): boolean {
    const { first, last } = this.rangesOf(prefix.family)
    const at = rankOf(first, prefix.address) - 1
    return at >= 0 && (last[at] ?? 0) >= lastOf(prefix)
  }

  /** Whether some address of the prefix is in one of the prefixes. */
  overlaps(prefix: Prefix): boolean {
    const { first, last } = this.rangesOf(prefix.family)
    const at = rankOf(first, lastOf(prefix)) - 1
    return at >= 0 && (last[at] ?? 0) >= prefix.address
  }

  /** Whether some address of some of the prefixes of a family is in one of ours; asks for each of the fewer. */
  overlapsAny(prefixes: PrefixSet, family: Family): boolean {
    const { first, last } = this.rangesOf(family)
    for (const part of prefixes.parts) {
      if (part.family !== family) continue
      const { addresses, length } = part
      if (addresses.length < first.length) {
        for (const address of addresses) if (this.overlaps({ family, address, length } as Prefix)) return true
        continue
      }
      for (let at = 0; at < first.length; at++) {
        // Prefixes of one length keep apart: the last that begins in or before the range reaches into it, or none does.
        const address = addresses[rankOf(addresses, last[at] ?? 0) - 1]
        if (address !== undefined && lastOf({ family, address, length } as Prefix) >= (first[at] ?? 0))
          return true
      }
    }
    return false
  }

  /** The ranges themselves: first and last addresses, in order, none touching the next. */
  rangesOf(family: Family): Ranges {
    return family === 4 ? this.#four : this.#six
  }
}

/** The last address of a prefix. */
export function lastOf(prefix: Prefix): Address {
  return prefix.family === 4
    ? (prefix.address | ~mask4(prefix.length)) >>> 0
    : prefix.address | (mask6(addressBits(6)) ^ mask6(prefix.length))
}

/** Sorted as one number each, address before length: a million of them take a tenth of a second. */
function merge4(prefixes: PrefixSet): Ranges {
  const keys = new Float64Array(prefixes.size)
  let count = 0
  for (const { family, address, length } of prefixes) if (family === 4) keys[count++] = address * 64 + length
  if (count === 0) return EMPTY
  const sorted = keys.subarray(0, count).sort()
  const first: number[] = []
  const last: number[] = []
  let end = -1
  for (const key of sorted) {
    const address = Math.floor(key / 64)
    const to = address + 2 ** (32 - (key % 64)) - 1
    if (address > end + 1 || end < 0) {
      first.push(address)
      last.push(to)
      end = to
    } else if (to > end) {
      last[last.length - 1] = to
      end = to
    }
  }
  return { first: Uint32Array.from(first), last: Uint32Array.from(last) }
}

function merge6(prefixes: PrefixSet): Ranges {
  const sorted = [...prefixes]
    .filter((prefix) => prefix.family === 6)
    .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length))
  const first: bigint[] = []
  const last: bigint[] = []
  let end = -1n
  for (const prefix of sorted) {
    const to = lastOf(prefix) as bigint
    if (prefix.address > end + 1n || end < 0n) {
      first.push(prefix.address)
      last.push(to)
      end = to
    } else if (to > end) {
      last[last.length - 1] = to
      end = to
    }
  }
  return { first, last }
}

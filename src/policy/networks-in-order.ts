/** All networks of many owners in the order of their addresses, the wider first: as a walk with a stack needs them. */
import type { Family, Prefix } from './prefix.ts'
import type { PrefixSet } from './prefix-set.ts'

export interface Network {
  readonly network: Prefix
  /** The owner's place among all. */
  readonly owner: number
}

/** An owner's number must fit beside an address and a length into the 53 bits of an exact number. */
const MAX_OWNERS = 2 ** 15

/** Of one family. Networks nest or keep apart; each comes after those that it lies in. */
export function networksInOrder(owners: readonly PrefixSet[], family: Family): Iterable<Network> {
  return family === 4 && owners.length <= MAX_OWNERS ? sorted4(owners) : sortedAny(owners, family)
}

function* sorted4(owners: readonly PrefixSet[]): Iterable<Network> {
  const keys = new Float64Array(countOf(owners, 4))
  let at = 0
  for (const [owner, networks] of owners.entries()) {
    for (const { family, length, addresses } of networks.parts) {
      if (family !== 4) continue
      for (const address of addresses as Uint32Array)
        keys[at++] = (address * 64 + length) * MAX_OWNERS + owner
    }
  }
  for (const key of keys.sort()) {
    const prefix = Math.floor(key / MAX_OWNERS)
    const network: Prefix = { family: 4, address: Math.floor(prefix / 64), length: prefix % 64 }
    yield { network, owner: key % MAX_OWNERS }
  }
}

function sortedAny(owners: readonly PrefixSet[], wanted: Family): Iterable<Network> {
  return owners
    .flatMap((networks, owner) =>
      [...networks].filter(({ family }) => family === wanted).map((network) => ({ network, owner })),
    )
    .sort(({ network: a }, { network: b }) =>
      a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length,
    )
}

function countOf(owners: readonly PrefixSet[], wanted: Family): number {
  let sum = 0
  for (const { parts } of owners) {
    for (const { family, addresses } of parts) if (family === wanted) sum += addresses.length
  }
  return sum
}

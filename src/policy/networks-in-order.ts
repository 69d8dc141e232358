/** All networks of all policies in the order of their addresses, the wider first: as a walk with a stack needs them. */
import type { Policy } from './model.ts'
import type { Family, Prefix } from './prefix.ts'

export interface Network {
  readonly network: Prefix
  /** The policy's place among all. */
  readonly owner: number
}

/** A policy's number must fit beside an address and a length into the 53 bits of an exact number. */
const MAX_POLICIES = 2 ** 15

/** Of one family. Networks nest or keep apart; each comes after those that it lies in. */
export function networksInOrder(policies: readonly Policy[], family: Family): Iterable<Network> {
  return family === 4 && policies.length <= MAX_POLICIES ? sorted4(policies) : sortedAny(policies, family)
}

function* sorted4(policies: readonly Policy[]): Iterable<Network> {
  const keys = new Float64Array(countOf(policies, 4))
  let at = 0
  for (const [owner, { networks }] of policies.entries()) {
    for (const { family, address, length } of networks) {
      if (family === 4) keys[at++] = (address * 64 + length) * MAX_POLICIES + owner
    }
  }
  for (const key of keys.sort()) {
    const prefix = Math.floor(key / MAX_POLICIES)
    const network: Prefix = { family: 4, address: Math.floor(prefix / 64), length: prefix % 64 }
    yield { network, owner: key % MAX_POLICIES }
  }
}

function sortedAny(policies: readonly Policy[], wanted: Family): Iterable<Network> {
  return policies
    .flatMap(({ networks }, owner) =>
      networks.filter(({ family }) => family === wanted).map((network) => ({ network, owner })),
    )
    .sort(({ network: a }, { network: b }) =>
      a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length,
    )
}

function countOf(policies: readonly Policy[], wanted: Family): number {
  let sum = 0
  for (const { networks } of policies) for (const { family } of networks) if (family === wanted) sum++
  return sum
}

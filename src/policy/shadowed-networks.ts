/** Which policies govern nobody, because longer networks of others have every one of their addresses. */
import { type AddressRanges, lastOf } from './address-ranges.ts'
import type { Policy } from './model.ts'
import type { Family, Prefix } from './prefix.ts'

type Address = number | bigint

/** A policy's number must fit beside an address and a length into the 53 bits of an exact number. */
const MAX_POLICIES = 2 ** 15

/**
 * The policies of whose networks nothing is left: by the longest match all of it belongs to others, or to relays,
 * which come before any policy. Of more than 32,768 policies none is found.
 */
export function shadowedPolicies(policies: readonly Policy[], relays: AddressRanges): Set<Policy> {
  const [only] = policies
  if (only === undefined || policies.length > MAX_POLICIES) return new Set()
  if (policies.length === 1) {
    return new Set(only.networks.length > 0 && only.networks.every((one) => relays.covers(one)) ? [only] : [])
  }
  const governing = new Set<Policy>()
  for (const family of [4, 6] as const) {
    const note = ({ network, owner }: Network) => {
      const policy = policies[owner]
      if (policy !== undefined && !relays.covers(network)) governing.add(policy)
    }
    findUntaken(family === 4 ? sorted4(policies) : sorted6(policies), note)
  }
  return new Set(policies.filter((policy) => policy.networks.length > 0 && !governing.has(policy)))
}

interface Network {
  readonly network: Prefix
  /** The policy's place among all. */
  readonly owner: number
}

interface Open extends Network {
  readonly last: Address
  /** The first address that no longer network inside has taken. */
  free: Address
  hasGap: boolean
}

/**
 * Tells of each network that has an address which no longer one has. Networks nest or keep apart, so that one walk
 * in the order of addresses, the wider first, with a stack of those around, sees all.
 */
function findUntaken(networks: Iterable<Network>, found: (network: Network) => void): void {
  const open: Open[] = []
  const close = () => {
    const closed = open.pop()
    if (closed === undefined) return
    if (closed.hasGap || closed.free <= closed.last) found(closed)
    const around = open.at(-1)
    if (around === undefined) return
    if (around.free < closed.network.address) around.hasGap = true
    around.free = after(closed.last)
  }
  for (const { network, owner } of networks) {
    while (open.length > 0 && (open.at(-1)?.last ?? 0) < network.address) close()
    open.push({ network, owner, last: lastOf(network), free: network.address, hasGap: false })
  }
  while (open.length > 0) close()
}

function after(address: Address): Address {
  return typeof address === 'number' ? address + 1 : address + 1n
}

function* sorted4(policies: readonly Policy[]): Iterable<Network> {
  const keys = new Float64Array(count(policies, 4))
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

function sorted6(policies: readonly Policy[]): Iterable<Network> {
  return policies
    .flatMap(({ networks }, owner) =>
      networks.filter(({ family }) => family === 6).map((network) => ({ network, owner })),
    )
    .sort(({ network: a }, { network: b }) =>
      a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length,
    )
}

function count(policies: readonly Policy[], wanted: Family): number {
  let sum = 0
  for (const { networks } of policies) for (const { family } of networks) if (family === wanted) sum++
  return sum
}

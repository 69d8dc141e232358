/** Which policies govern nobody, because longer networks of others have every one of their addresses. */
import { AddressRanges, lastOf } from './address-ranges.ts'
import { type Network, networksInOrder } from './networks-in-order.ts'
import { FAMILIES } from './prefix.ts'
import type { Address, PrefixSet } from './prefix-set.ts'

/**
 * Which policies, by their places, have networks of which nothing is left: by the longest match all of it belongs to
 * others, or to relays, whose addresses come before any policy.
 */
export function shadowedPolicies(policies: readonly PrefixSet[], relays: PrefixSet): Set<number> {
  const taken = AddressRanges.of(relays)
  if (policies.length === 1 && relays.size === 0) return new Set()
  const governing = new Set<number>()
  for (const family of FAMILIES) {
    // Relays walk along as if they were one more policy; what lies in them is taken whatever its length.
    findUntaken(networksInOrder([...policies, relays], family), ({ network, owner }) => {
      if (!taken.covers(network)) governing.add(owner)
    })
  }
  return new Set([...policies.keys()].filter((at) => (policies[at]?.size ?? 0) > 0 && !governing.has(at)))
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

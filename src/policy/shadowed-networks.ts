/** Which policies govern nobody, because longer networks of others have every one of their addresses. */
import { type AddressRanges, lastOf } from './address-ranges.ts'
import type { Policy } from './model.ts'
import { type Network, networksInOrder } from './networks-in-order.ts'

type Address = number | bigint

/**
 * The policies of whose networks nothing is left: by the longest match all of it belongs to others, or to relays,
 * which come before any policy.
 */
export function shadowedPolicies(policies: readonly Policy[], relays: AddressRanges): Set<Policy> {
  const [only] = policies
  if (only === undefined) return new Set()
  if (policies.length === 1) {
    return new Set(only.networks.length > 0 && only.networks.every((one) => relays.covers(one)) ? [only] : [])
  }
  const governing = new Set<Policy>()
  for (const family of [4, 6] as const) {
    const note = ({ network, owner }: Network) => {
      const policy = policies[owner]
      if (policy !== undefined && !relays.covers(network)) governing.add(policy)
    }
    findUntaken(networksInOrder(policies, family), note)
  }
  return new Set(policies.filter((policy) => policy.networks.length > 0 && !governing.has(policy)))
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

/**
 * The reference verdict. It is meant to be read beside the policy reference, and to be compared with the kernel:
 * when they differ, one of them has a bug.
 */
import type { Exemption, Model, Policy, Relay } from './model.ts'
import type { Family, Prefix } from './prefix.ts'

export interface Packet {
  /** Single addresses of one family. */
  readonly source: Prefix
  readonly destination: Prefix
  /** TCP destination port. */
  readonly port: number
  /** The local user whose process sends it; null for a packet that the gateway forwards. */
  readonly user?: string | null
  /** False: it leaves by an interface that the gateway does not call outside, so it is not outbound. */
  readonly outbound?: boolean
}

export type Decision =
  | { readonly verdict: 'allow'; readonly because: 'other-port' }
  | { readonly verdict: 'allow'; readonly because: 'not-outbound' }
  | { readonly verdict: 'allow'; readonly because: 'relay-source'; readonly document: Relay }
  | { readonly verdict: 'allow'; readonly because: 'relay-user'; readonly document: Relay }
  | { readonly verdict: 'allow'; readonly because: 'relay-client'; readonly document: Relay }
  | { readonly verdict: 'allow'; readonly because: 'exemption'; readonly document: Exemption }
  | {
      readonly verdict: 'block' | 'redirect' | 'observe'
      readonly because: 'policy'
      readonly document: Policy
      readonly network: Prefix
    }
  | { readonly verdict: 'ungoverned'; readonly because: 'ungoverned' }

/** What becomes of a packet at a time (milliseconds since the epoch). Rates count as not used up. */
export function decide(model: Model, packet: Packet, now: number): Decision {
  const { source, destination, port, user = null, outbound = true } = packet
  if (port !== 25) return { verdict: 'allow', because: 'other-port' }
  if (!outbound) return { verdict: 'allow', because: 'not-outbound' }

  for (const relay of model.relays) {
    if (relay.addresses.contains(source))
      return { verdict: 'allow', because: 'relay-source', document: relay }
    if (user !== null && relay.users.includes(user)) {
      return { verdict: 'allow', because: 'relay-user', document: relay }
    }
  }
  for (const relay of model.relays) {
    if (relay.addresses.contains(destination) && (relay.clients?.contains(source) ?? true)) {
      return { verdict: 'allow', because: 'relay-client', document: relay }
    }
  }
  for (const exemption of model.exemptions) {
    if (isInForce(exemption, now) && covers(exemption, source, destination)) {
      return { verdict: 'allow', because: 'exemption', document: exemption }
    }
  }
  const governing = governingPolicy(model, source)
  if (governing === null) return { verdict: 'ungoverned', because: 'ungoverned' }
  return {
    verdict: verdictOf(governing.policy, source.family),
    because: 'policy',
    document: governing.policy,
    network: governing.network,
  }
}

/** The policy whose network is the longest match for the source, and that network. */
export function governingPolicy(model: Model, source: Prefix): { policy: Policy; network: Prefix } | null {
  let best: { policy: Policy; network: Prefix } | null = null
  for (const policy of model.policies) {
    const network = policy.networks.longestMatch(source)
    if (network !== null && (best === null || network.length > best.network.length))
      best = { policy, network }
  }
  return best
}

/** What a policy does with what it governs of a family; null: with what cannot be redirected in any. */
export function verdictOf(policy: Policy, family: Family | null): 'block' | 'redirect' | 'observe' {
  if (policy.mode === 'observe') return 'observe'
  const target = family === 4 ? policy.redirect?.target4 : family === 6 ? policy.redirect?.target6 : null
  return target ? 'redirect' : 'block'
}

/** Whether a policy redirects anything. */
export function redirects(policy: Policy): boolean {
  return verdictOf(policy, 4) === 'redirect' || verdictOf(policy, 6) === 'redirect'
}

/** An exemption ends at its time, to the millisecond. */
export function isInForce(exemption: Exemption, now: number): boolean {
  return exemption.expires === null || now < exemption.expires
}

export function covers(exemption: Exemption, source: Prefix, destination: Prefix): boolean {
  const { sources, destinations } = exemption
  return sources.contains(source) && (destinations?.contains(destination) ?? true)
}

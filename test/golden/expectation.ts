/**
 * What must become of a packet in the lab: the reference verdict, and what it does not speak of, which are the gateway's
 * hooks and interfaces, the counters, and rates that are used up. Far too slow and far too simple to have the
 * compiler's mistakes.
 */
import { sourcesSet } from '../../src/compile/compile-policies.ts'
import { covers, type Decision, decide, governingPolicy, isInForce } from '../../src/policy/decide.ts'
import type { Exemption, Model, Policy } from '../../src/policy/model.ts'
import { contains, formatAddress, formatPrefix, type Prefix, truncate } from '../../src/policy/prefix.ts'
import { learnedSetOf } from '../../src/watch/source-counters.ts'
import { isGateway, isOutbound } from './field.ts'
import type { GatewayOptions } from './random.ts'

export interface TrialPacket {
  readonly source: Prefix
  readonly destination: Prefix
  readonly port: number
  /** The user whose program sends it; matters only on the gateway itself. */
  readonly user: string | null
}

export interface Expected {
  readonly outcome: 'passes' | 'reset' | 'dropped'
  /** Where it arrives when it passes. */
  readonly at: Prefix
  /** Why, in one word, for figures: the verdict or what it follows from. */
  readonly because: string
  /** What is counted: totals, and the machine in its set of sources. */
  readonly counted: readonly string[]
}

/** How many more connections each source has under each exemption with a rate. */
export type Buckets = Map<string, number>

const nothing: readonly string[] = []

/** What the kernel must do with a connection's first packet at a time; uses up rates. */
export function expectationOf(
  model: Model,
  gateway: GatewayOptions,
  packet: TrialPacket,
  now: number,
  buckets: Buckets,
): Expected {
  const { destination } = packet
  const passes = (because: string, counted = nothing, at = destination): Expected => ({
    outcome: 'passes',
    at,
    because,
    counted,
  })
  if (!isLookedAt(packet, gateway)) return passes('not-hooked')
  const outbound = isOutbound(destination, gateway.outsideInterfaces)
  // Only what the gateway itself sends has a user.
  const user = isGateway(packet.source) ? packet.user : null
  const decision = decide(model, { ...packet, user, outbound }, now)
  switch (decision.because) {
    case 'other-port':
    case 'not-outbound':
    case 'ungoverned':
      return passes(decision.because)
    case 'relay-source':
    case 'relay-user':
      return passes(decision.because, sent('relay', packet.source))
    case 'relay-client':
      return passes(decision.because, ['allowed relay'])
    case 'exemption':
      return hasRate(model, packet, now, buckets)
        ? passes('exemption', sent('exemption', packet.source))
        : beyondRate(model, packet, passes)
    default:
      return byPolicy(decision, packet, passes)
  }
}

function isLookedAt({ source }: TrialPacket, { hooks }: GatewayOptions): boolean {
  return hooks.includes(isGateway(source) ? 'output' : 'forward')
}

type Passes = (because: string, counted?: readonly string[], at?: Prefix) => Expected

function byPolicy(
  decision: Extract<Decision, { because: 'policy' }>,
  { source, destination }: TrialPacket,
  passes: Passes,
): Expected {
  const { verdict, document: policy } = decision
  const counted = attempt(policy, verdict, source)
  if (verdict === 'observe') return passes(verdict, counted)
  if (verdict === 'redirect') {
    const target = targetOf(policy, source)
    if (!target) throw new Error('redirected to nowhere')
    return passes(verdict, counted, target)
  }
  const outcome = policy.action === 'drop' ? 'dropped' : 'reset'
  return { outcome, at: destination, because: verdict, counted }
}

function targetOf({ redirect }: Policy, { family }: Prefix): Prefix | null {
  return (family === 4 ? redirect?.target4 : redirect?.target6) ?? null
}

/** Whether a packet is for the address itself to which its policy sends connections. */
function isTarget(policy: Policy, { source, destination }: TrialPacket): boolean {
  return targetOf(policy, source)?.address === destination.address
}

/** Beyond its rate a host is treated as if it were not exempt; but who has a server of its own is not redirected. */
function beyondRate(model: Model, packet: TrialPacket, passes: Passes): Expected {
  const { source, destination } = packet
  const policy = governingPolicy(model, source)?.policy
  if (policy === undefined) return passes('ungoverned')
  if (policy.mode === 'observe') return passes('observe', attempt(policy, 'observe', source))
  // Who asks for the relay itself gets to it, as everybody does who is redirected.
  if (isTarget(policy, packet)) return passes('redirect', attempt(policy, 'redirect', source))
  const outcome = policy.action === 'drop' ? 'dropped' : 'reset'
  return { outcome, at: destination, because: 'beyond-rate', counted: attempt(policy, 'block', source) }
}

/**
 * An exemption without a rate is never used up. Among those with one, the longest source decides which is used up first,
 * and then the longest destination; each is for one source address.
 */
function hasRate(model: Model, { source, destination }: TrialPacket, now: number, buckets: Buckets): boolean {
  const inForce = model.exemptions.filter((one) => isInForce(one, now) && covers(one, source, destination))
  if (inForce.some(({ rate }) => rate === null)) return true
  for (const { name, rate } of inForce.sort((a, b) => nearer(a, b, source, destination))) {
    const key = `${name} ${formatPrefix(source)}`
    const left = buckets.get(key) ?? rate?.count ?? 0
    if (left === 0) continue
    buckets.set(key, left - 1)
    return true
  }
  return false
}

function nearer(a: Exemption, b: Exemption, source: Prefix, destination: Prefix): number {
  const length = (prefixes: Iterable<Prefix> | null, address: Prefix) =>
    prefixes === null ? -1 : (longestMatch([...prefixes], address)?.length ?? -1)
  return (
    length(b.sources, source) - length(a.sources, source) ||
    length(b.destinations, destination) - length(a.destinations, destination)
  )
}

function attempt(policy: Policy, verdict: 'block' | 'redirect' | 'observe', source: Prefix): string[] {
  const machine = source.family === 4 ? source : truncate(source, policy.thresholds.ipv6Prefix)
  return [`attempts ${policy.name} ${verdict}`, 'logged', `${sourcesSet(machine)} ${formatAddress(machine)}`]
}

/** What relays and exempt hosts send is counted for each of them, by the /64 in IPv6. */
function sent(because: 'relay' | 'exemption', source: Prefix): string[] {
  const machine = source.family === 4 ? source : truncate(source, 64)
  return [`allowed ${because}`, 'logged-allowed', `${learnedSetOf(machine, true)} ${formatAddress(machine)}`]
}

/** Whether a packet of a connection that was let through still passes now: revoked is revoked at once. */
export function stillPasses(
  model: Model,
  gateway: GatewayOptions,
  packet: TrialPacket,
  now: number,
): boolean {
  if (!isLookedAt(packet, gateway)) return true
  const outbound = isOutbound(packet.destination, gateway.outsideInterfaces)
  const user = isGateway(packet.source) ? packet.user : null
  const decision = decide(model, { ...packet, user, outbound }, now)
  if (decision.because !== 'policy' || decision.verdict === 'observe') return true
  // Who speaks to the very relay that connections are sent to from now on may go on.
  return decision.verdict === 'redirect' && isTarget(decision.document, packet)
}

/** The longest of the prefixes that contain the address, or null. Linear, and nothing of the code that it is held against. */
function longestMatch(prefixes: readonly Prefix[], address: Prefix): Prefix | null {
  let best: Prefix | null = null
  for (const prefix of prefixes) {
    if ((best === null || prefix.length > best.length) && contains(prefix, address)) best = prefix
  }
  return best
}

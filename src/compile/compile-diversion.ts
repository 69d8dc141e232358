/**
 * `action: redirect`: connections of governed hosts are handed to a relay.
 *
 * Destinations can be changed only before routing, in chains of their own type (nat, conntrack's first packet of a
 * connection), where nothing is counted and no rate is used up: there it is only asked whether the verdict *could* be
 * anything but redirect. What was diverted comes by the filter chains with the relay as its destination, and is
 * counted, told and let through there, before it could be taken for mail that was meant for the relay.
 */
import { redirects } from '../policy/decide.ts'
import type { Model, Policy } from '../policy/model.ts'
import { EndingExemptions, untilChain } from './compile-exemptions.ts'
import { attemptChains, boundForRelay, networkTables, targetsOf } from './compile-policies.ts'
import { byMap, type Context, inSet, outboundOnly, relayUids } from './context.ts'
import { LookupTables } from './lookup-tables.ts'
import type { Chain, LookupTable, Rule } from './ruleset.ts'

interface Diversion {
  readonly tables: readonly LookupTable[]
  readonly chains: readonly Chain[]
  readonly baseChains: readonly Chain[]
  /** Rules for the front of the egress chain, before it is asked what is outbound. */
  readonly egress: readonly Rule[]
}

/** Where destinations are changed: NF_IP_PRI_NAT_DST of linux/netfilter_ipv4.h. */
const DSTNAT = -100

/** `spared`: the plain sets of relays and unlimited exemptions, which are never diverted. */
export function compileDiversion(model: Model, spared: readonly LookupTable[], context: Context): Diversion {
  if (!model.policies.some(redirects)) return { tables: [], chains: [], baseChains: [], egress: [] }
  const exempt = sparedExemptions(model)
  const networks = networkTables('divert', model.policies, (policy) =>
    redirects(policy) ? `divert-${policy.name}` : 'undiverted',
  )
  const elsewhere = outboundOnly('not-leaving-by', context.options)
  const landed = networkTables('diverted', model.policies, (policy) =>
    redirects(policy) ? `${elsewhere.length > 0 ? 'landing' : 'policy'}-${policy.name}` : 'not-ours',
  )
  const ask: Rule[] = [
    ...[...spared, ...exempt.sets].map((table) => inSet(table, 'undiverted')),
    ...[...exempt.maps, ...networks].map(byMap),
  ]
  return {
    tables: [...exempt.sets, ...exempt.maps, ...networks, ...landed],
    chains: [
      { name: 'undiverted', base: null, rules: [{ rule: 'verdict', verdict: 'accept' }] },
      ...exempt.chains,
      ...model.policies.filter(redirects).flatMap((policy) => chainsOf(policy, context)),
      ...(elsewhere.length > 0 ? model.policies.filter(redirects) : []).map(landingChain),
      // Somebody else's change of destination, such as a port forwarded to a customer's server.
      { name: 'not-ours', base: null, rules: [] },
      { name: 'diverted', base: null, rules: landed.map(byMap) },
    ],
    baseChains: baseChains(model, context, ask),
    egress: [{ rule: 'diverted', chain: 'diverted' }],
  }

  /** A relay need not be outside: whether a connection is outbound was asked before it was sent there. */
  function landingChain(policy: Policy): Chain {
    const rules: Rule[] = [
      ...boundForRelay(policy),
      ...elsewhere,
      { rule: 'goto', chain: `policy-${policy.name}` },
    ]
    return { name: `landing-${policy.name}`, base: null, rules }
  }
}

/** Exemptions that end are spared until then. One with a rate is spared too: beyond its rate it is blocked. */
function sparedExemptions({ exemptions }: Model) {
  const rated = new LookupTables('spared')
  const ending = new EndingExemptions('spared-until')
  for (const exemption of exemptions) {
    const { sources, destinations, rate, expires } = exemption
    if (expires !== null) ending.add(exemption, expires)
    else if (rate !== null) rated.add(sources, destinations)
  }
  const { tables, times } = ending.finish()
  return {
    sets: rated.finish(),
    maps: tables,
    chains: times.map((time) => untilChain('spared-until', time, 'undiverted')),
  }
}

function chainsOf(policy: Policy, context: Context): Chain[] {
  return [
    {
      name: `divert-${policy.name}`,
      base: null,
      rules: targetsOf(policy).map((to): Rule => ({ rule: 'send-to', to })),
    },
    ...attemptChains(`redirect-${policy.name}`, policy, 'redirect', context),
    {
      name: `landed-${policy.name}`,
      base: null,
      rules: [
        { rule: 'first', chain: `redirect-${policy.name}` },
        { rule: 'verdict', verdict: 'accept' },
      ],
    },
  ]
}

function baseChains(model: Model, { options }: Context, ask: readonly Rule[]): Chain[] {
  const { hooks } = options
  const chains: Chain[] = []
  if (hooks.includes('forward')) {
    const rules: Rule[] = [
      { rule: 'tcp-only' },
      { rule: 'to-this-machine' },
      ...outboundOnly('not-routed-by', options),
      ...ask,
    ]
    chains.push({ name: 'redirecting', base: null, rules })
    chains.push({
      name: 'prerouting',
      base: { type: 'nat', hook: 'prerouting', priority: DSTNAT },
      rules: [{ rule: 'port-25', chain: 'redirecting' }],
    })
  }
  if (hooks.includes('output')) {
    const uids = relayUids(model, options)
    const rules: Rule[] = [
      { rule: 'tcp-only' },
      { rule: 'loopback' },
      ...outboundOnly('not-leaving-by', options),
      ...(uids.length > 0 ? [{ rule: 'users', uids, chain: 'undiverted' } as const] : []),
      ...ask,
    ]
    chains.push({ name: 'redirecting-local', base: null, rules })
    chains.push({
      name: 'output-redirect',
      base: { type: 'nat', hook: 'output', priority: DSTNAT },
      rules: [{ rule: 'port-25', chain: 'redirecting-local' }],
    })
  }
  return chains
}

/** The model to a ruleset. The order of the rules is the order of the verdicts in `policy/decide.ts`. */
import type { Model } from '../policy/model.ts'
import { FAMILIES } from '../policy/prefix.ts'
import { allowedChains } from './compile-allowed.ts'
import { compileDiversion } from './compile-diversion.ts'
import { evidenceOfReceiving } from './compile-evidence.ts'
import { compileExemptions } from './compile-exemptions.ts'
import { networkTables, policyChains } from './compile-policies.ts'
import { byMap, inSet, newContext, outboundOnly, relayUids } from './context.ts'
import { LookupTables } from './lookup-tables.ts'
import type { CompileOptions } from './options.ts'
import type { Chain, LookupTable, Rule, Ruleset } from './ruleset.ts'

/** Compiles a checked model. Pure: same model and options, same ruleset. */
export function compile(model: Model, options: CompileOptions): Ruleset {
  const context = newContext(options)
  const { totals } = context
  const relays = compileRelays(model)
  const exemptions = compileExemptions(model.exemptions, context)
  const policies = networkTables('policy', model.policies, ({ name }) => `policy-${name}`)
  const diversion = compileDiversion(
    model,
    [...relays.senders, ...relays.receivers, ...exemptions.always],
    context,
  )
  const egress: Rule[] = [
    { rule: 'tcp-only' },
    ...FAMILIES.map((family): Rule => ({ rule: 'later-fragment', family })),
    ...diversion.egress,
    ...evidenceOfReceiving(model, context, 'leaving'),
    ...outboundOnly('not-leaving-by', options),
    ...relays.senders.map((table) => inSet(table, 'relayed')),
    ...relays.receivers.map((table) => inSet(table, 'submitted')),
    ...exemptions.always.map((table) => inSet(table, 'exempted')),
    ...exemptions.sometimes.map(byMap),
    ...policies.map(byMap),
    ...evidenceOfReceiving(model, context, 'ungoverned'),
  ]
  const chains: Chain[] = [
    ...model.policies.flatMap((policy) => policyChains(policy, context)),
    ...exemptions.chains,
    ...diversion.chains,
    ...allowedChains(context),
    { name: 'egress', base: null, rules: egress },
    ...baseChains(model, options),
    ...diversion.baseChains,
  ]
  return {
    tables: [
      ...relays.senders,
      ...relays.receivers,
      ...exemptions.always,
      ...exemptions.sometimes,
      ...policies,
      ...diversion.tables,
    ],
    learned: [...context.learned.values()],
    totals: totals.finish(),
    chains,
  }
}

function compileRelays({ relays }: Model): Readonly<Record<'senders' | 'receivers', LookupTable[]>> {
  const senders = new LookupTables('relay')
  const receivers = new LookupTables('submit')
  for (const { addresses, clients } of relays) {
    senders.add(addresses, null)
    receivers.add(clients, addresses)
  }
  return { senders: senders.finish(), receivers: receivers.finish() }
}

function baseChains(model: Model, options: CompileOptions): Chain[] {
  const { hooks, priority } = options
  const chains: Chain[] = []
  if (hooks.includes('forward')) {
    chains.push({
      name: 'forward',
      base: { type: 'filter', hook: 'forward', priority },
      rules: [{ rule: 'port-25', chain: 'egress' }],
    })
  }
  if (hooks.includes('output')) {
    const unique = relayUids(model, options)
    const rules: Rule[] = [
      { rule: 'tcp-only' },
      { rule: 'loopback' },
      ...(unique.length > 0 ? [...outboundOnly('not-leaving-by', options), ...byUser(unique)] : []),
      { rule: 'goto', chain: 'egress' },
    ]
    chains.push({ name: 'local', base: null, rules })
    chains.push({
      name: 'output',
      base: { type: 'filter', hook: 'output', priority },
      rules: [{ rule: 'port-25', chain: 'local' }],
    })
  }
  return chains
}

/**
 * A connection outlives the process that closed it: the kernel sends what is left, and the last acknowledgements, in
 * nobody's name. That begins no connection, so it is let through; a new one needs a process, whose user is known.
 */
function byUser(uids: readonly number[]): Rule[] {
  return [
    { rule: 'users', uids, chain: 'relayed' },
    { rule: 'any-user', chain: 'egress' },
    { rule: 'not-first', chain: 'relayed' },
  ]
}

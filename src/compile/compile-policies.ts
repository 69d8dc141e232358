/** Policies: whom they govern, and what is counted and told before the verdict. */
import { redirects, verdictOf } from '../policy/decide.ts'
import type { Policy } from '../policy/model.ts'
import { FAMILIES, type Family, type Prefix, parsePrefix } from '../policy/prefix.ts'
import { evidenceOfSending } from './compile-evidence.ts'
import type { Context } from './context.ts'
import { LookupTables } from './lookup-tables.ts'
import type { Chain, Limit, LookupTable, Rule } from './ruleset.ts'

/** Attempts of one source that are logged each second, and at once after a quiet time; beyond it they are counted only. */
const LOG_LIMIT: Limit = { perSecond: 50, burst: 500 }

/** The same for all sources of a policy: a flood from spoofed addresses must not drown the one who reads. */
const OVERALL_LIMIT: Limit = { perSecond: 10_000, burst: 20_000 }

/** A source that was quiet for a day is forgotten. */
const REMEMBERED = 86_400

/** One table of networks, each leading to its policy's chain: `chainOf` says which. */
export function networkTables(
  name: string,
  policies: readonly Policy[],
  chainOf: (policy: Policy) => string,
): LookupTable[] {
  const tables = new LookupTables(name)
  for (const policy of policies) {
    tables.add(policy.networks, null, chainOf(policy))
  }
  return tables.finish()
}

/** The policy's own chain, and the one that its attempts visit on the way. */
export function policyChains(policy: Policy, context: Context): Chain[] {
  // What is to be redirected and arrives here could not be: its family has no target.
  const verdict = verdictOf(policy, null)
  const final = verdict === 'observe' ? 'accept' : policy.action === 'drop' ? 'drop' : 'reset'
  return [
    ...attemptChains(`attempt-${policy.name}`, policy, verdict, context),
    {
      name: `policy-${policy.name}`,
      base: null,
      rules: [
        // Also what was meant for that relay from the start, which conntrack does not call changed. A relay that the
        // policy no longer names gets nothing more.
        ...boundForRelay(policy),
        { rule: 'first', chain: `attempt-${policy.name}` },
        ...evidenceOfSending(policy, context),
        { rule: 'verdict', verdict: final },
      ],
    },
  ]
}

/** What comes to the policy's relay has landed. */
export function boundForRelay(policy: Policy): Rule[] {
  return targetsOf(policy).map((to): Rule => ({ rule: 'bound-for', to, chain: `landed-${policy.name}` }))
}

/** Where a policy sends connections, an address for each family that has one. */
export function targetsOf(policy: Policy): Prefix[] {
  if (!redirects(policy)) return []
  return [policy.redirect?.target4, policy.redirect?.target6].filter((target) => target != null)
}

/** Counting and logging stand in rules of their own: whatever becomes of them, the verdict after them stays. */
export function attemptChains(
  name: string,
  policy: Policy,
  verdict: 'block' | 'redirect' | 'observe',
  context: Context,
): Chain[] {
  const { options, totals, learn } = context
  const countedAs = totals.id({ of: 'logged' })
  const telling = { limit: LOG_LIMIT, overall: OVERALL_LIMIT, countedAs, group: options.nflogGroup }
  const machines = FAMILIES.map((family) => machine(family, policy))
  return withLog(
    {
      name,
      base: null,
      rules: [
        { rule: 'count', id: totals.id({ of: 'attempts', policy: policy.name, verdict }) },
        ...countSources('sources', machines, learn),
      ],
    },
    'muted',
    machines,
    { ...telling, prefix: `${verdict}:${policy.name}` },
    context,
  )
}

/** One machine of a family: how long its prefix is. */
export interface MachineLength {
  readonly family: Family
  readonly length: number
}

/** Counts each machine in a set of its family and length. */
export function countSources(
  name: string,
  machines: readonly MachineLength[],
  learn: Context['learn'],
): Rule[] {
  return machines.map(({ family, length }) => ({
    rule: 'count-source',
    set: learn(`${name}${suffix(family, length)}`, family, 'counter', REMEMBERED),
    family,
    length,
  }))
}

type Telling = Pick<Extract<Rule, { rule: 'log' }>, 'overall' | 'countedAs' | 'prefix' | 'group'> & {
  readonly limit: Limit
}

/**
 * The chain that hands packets to the event log at its end, up to a limit for each machine. What this machine's own users
 * send goes to a chain beside it, with a limit for each of them: one who makes very many attempts must not drown the others.
 */
export function withLog(
  { name, base, rules }: Chain,
  muted: string,
  machines: readonly MachineLength[],
  telling: Telling,
  { options, learn }: Context,
): Chain[] {
  const bySource = logSources(muted, machines, false, telling, learn)
  if (!options.hooks.includes('output')) return [{ name, base, rules: [...rules, ...bySource] }]
  const local = `by-user-${name}`
  const byUser = logSources(`${muted}-users`, machines, true, telling, learn)
  return [
    { name: local, base: null, rules: byUser },
    { name, base, rules: [...rules, { rule: 'any-user', chain: local }, ...bySource] },
  ]
}

function logSources(
  name: string,
  machines: readonly MachineLength[],
  byUser: boolean,
  telling: Telling,
  learn: Context['learn'],
): Rule[] {
  const { limit, ...rest } = telling
  return machines.flatMap(({ family, length }): Rule[] => [
    {
      rule: 'mute',
      set: learn(`${name}${suffix(family, length)}`, family, byUser ? 'limit-by-user' : 'limit', 60),
      family,
      length,
      byUser,
      limit,
    },
    { rule: 'log', family, ...rest },
  ])
}

/** The learned set that counts the attempts of a machine, given as the prefix that stands for it. */
export function sourcesSet({ family, length }: Prefix): string {
  return family === 4 ? 'sources4' : `sources6-${length}`
}

/** The machine that an address in such a set stands for; null when the set is another or the address none. */
export function machineIn(set: string, address: string): Prefix | null {
  const length = set === 'sources4' ? 32 : Number(/^sources6-(\d+)$/.exec(set)?.[1])
  const machine = parsePrefix(`${address}/${length}`)
  return typeof machine === 'string' ? null : machine
}

/** One machine is one IPv4 address, or one IPv6 prefix of the policy's choice. */
function machine(family: Family, { thresholds }: Policy): MachineLength {
  return { family, length: family === 4 ? 32 : thresholds.ipv6Prefix }
}

function suffix(family: Family, length: number): string {
  return family === 4 ? '4' : `6-${length}`
}

/** The model to a ruleset. The order of the rules is the order of the verdicts in `policy/decide.ts`. */
import { verdictOf } from '../policy/decide.ts'
import type { Exemption, Model, Policy } from '../policy/model.ts'
import type { Family, Prefix } from '../policy/prefix.ts'
import { LookupTables } from './lookup-tables.ts'
import type { Chain, LearnedSet, LookupTable, Rule, Ruleset } from './ruleset.ts'
import { Totals } from './totals.ts'

/** What a gateway adds to the policies. */
export interface CompileOptions {
  readonly hooks: readonly ('forward' | 'output')[]
  /** Empty: everything that leaves is outbound. */
  readonly outsideInterfaces: readonly string[]
  readonly nflogGroup: number
  readonly priority: number
  /** Most sources that are counted one by one. */
  readonly trackedSources: number
  /** Ids of the local users that relays name; a name without an id belongs to nobody on this machine. */
  readonly uids: ReadonlyMap<string, number>
}

export const DEFAULT_COMPILE_OPTIONS: CompileOptions = {
  hooks: ['forward', 'output'],
  outsideInterfaces: [],
  nflogGroup: 25,
  priority: -5,
  trackedSources: 65_536,
  uids: new Map(),
}

/** Attempts of one source that are logged each second, and at once after a quiet time; beyond it they are counted only. */
const LOG_LIMIT = { perSecond: 50, burst: 500 } as const

const DAY = 86_400
const SECONDS = { second: 1, minute: 60, hour: 3_600, day: DAY }
const FAMILIES: readonly Family[] = [4, 6]

/** Compiles a checked model. Pure: same model and options, same ruleset. */
export function compile(model: Model, options: CompileOptions): Ruleset {
  const totals = new Totals()
  const learned = new Map<string, LearnedSet>()
  const learn = (name: string, family: Family, holds: LearnedSet['holds'], timeout: number): string => {
    learned.set(name, { name, family, holds, size: options.trackedSources, timeout })
    return name
  }

  const relays = compileRelays(model)
  const exemptions = compileExemptions(model.exemptions, learn)
  const policies = compilePolicies(model.policies)
  const egress: Rule[] = [
    ...(options.outsideInterfaces.length > 0
      ? [{ rule: 'not-leaving-by', interfaces: options.outsideInterfaces } as const]
      : []),
    ...relays.map((table) => inSet(table, 'relayed')),
    ...exemptions.always.map((table) => inSet(table, 'exempted')),
    ...exemptions.sometimes.map(byMap),
    ...policies.map(byMap),
  ]
  const chains: Chain[] = [
    ...model.policies.flatMap((policy) => policyChains(policy, options, totals, learn)),
    ...exemptions.chains,
    allowedChain('relayed', totals.id({ of: 'allowed', because: 'relay' })),
    allowedChain('exempted', totals.id({ of: 'allowed', because: 'exemption' })),
    { name: 'egress', base: null, rules: egress },
    ...baseChains(model, options),
  ]
  return {
    tables: [...relays, ...exemptions.always, ...exemptions.sometimes, ...policies],
    learned: [...learned.values()],
    totals: totals.finish(),
    chains,
  }
}

function compileRelays({ relays }: Model): LookupTable[] {
  const senders = new LookupTables('relay')
  const receivers = new LookupTables('submit')
  for (const { addresses, clients } of relays) {
    for (const address of addresses) {
      senders.add(address, null)
      for (const client of clients ?? [null]) receivers.add(client, address)
    }
  }
  return [...senders.finish(), ...receivers.finish()]
}

/**
 * Exemptions without end or rate are plain sets. The others are maps to chains that look at the clock or the rate
 * and come back when the exemption does not hold (any more), so that the next look-up decides.
 */
function compileExemptions(exemptions: readonly Exemption[], learn: Learn) {
  const always = new LookupTables('exempt')
  const limited = new LookupTables('rated', 'jump')
  const ending = new EndingExemptions()
  const chains: Chain[] = []
  for (const exemption of exemptions) {
    const { sources, destinations, rate, expires, name } = exemption
    if (rate !== null) chains.push(ratedChain(exemption, learn))
    for (const source of sources) {
      for (const destination of destinations ?? [null]) {
        if (rate !== null) limited.add(source, destination, `rated-${name}`)
        else if (expires === null) always.add(source, destination)
        else ending.add(source, destination, Math.floor(expires / 1000))
      }
    }
  }
  const { tables, times } = ending.finish()
  chains.push(...times.map(untilChain))
  return { always: always.finish(), sometimes: [...tables, ...limited.finish()], chains }
}

/** Where several exemptions cover the same pair, the latest end counts. */
class EndingExemptions {
  readonly #ends = new Map<string, { source: Prefix; destination: Prefix | null; time: number }>()

  add(source: Prefix, destination: Prefix | null, time: number): void {
    const pair = `${source.family}/${source.address}/${source.length}/${destination?.address}/${destination?.length}`
    const known = this.#ends.get(pair)
    if (known === undefined || known.time < time) this.#ends.set(pair, { source, destination, time })
  }

  finish(): { tables: LookupTable[]; times: number[] } {
    const tables = new LookupTables('until', 'jump')
    const times = new Set<number>()
    for (const { source, destination, time } of this.#ends.values()) {
      tables.add(source, destination, untilName(time))
      times.add(time)
    }
    return { tables: tables.finish(), times: [...times].sort((a, b) => a - b) }
  }
}

type Learn = (name: string, family: Family, holds: LearnedSet['holds'], timeout: number) => string

function untilName(time: number): string {
  return `until-${time}`
}

function untilChain(time: number): Chain {
  return {
    name: untilName(time),
    base: null,
    rules: [
      { rule: 'until', time },
      { rule: 'goto', chain: 'exempted' },
    ],
  }
}

function ratedChain({ name, rate, expires }: Exemption, learn: Learn): Chain {
  const rules: Rule[] = expires === null ? [] : [{ rule: 'until', time: Math.floor(expires / 1000) }]
  rules.push({ rule: 'not-first', chain: 'exempted' })
  if (rate !== null) {
    for (const family of FAMILIES) {
      // The kernel keeps the rate with which it learned a source, so that another rate needs a set of its own.
      const set = learn(
        `rate${family}-${name}-${rate.count}-${rate.per}`,
        family,
        'limit',
        // Forgotten no sooner than a full bucket would have been earned anyway.
        Math.max(SECONDS[rate.per], 60),
      )
      rules.push({ rule: 'below-rate', set, family, rate, chain: 'exempted' })
    }
  }
  return { name: `rated-${name}`, base: null, rules }
}

function compilePolicies(policies: readonly Policy[]): LookupTable[] {
  const tables = new LookupTables('policy')
  for (const { name, networks } of policies) {
    for (const network of networks) tables.add(network, null, `policy-${name}`)
  }
  return tables.finish()
}

/** Counting and logging stand in rules of their own: whatever becomes of them, the verdict below them stays. */
function policyChains(policy: Policy, { nflogGroup }: CompileOptions, totals: Totals, learn: Learn): Chain[] {
  const verdict = verdictOf(policy)
  const countedAs = totals.id({ of: 'logged' })
  const attempt: Rule[] = [
    { rule: 'count', id: totals.id({ of: 'attempts', policy: policy.name, verdict }) },
    ...FAMILIES.map((family): Rule => {
      const { suffix, length } = machine(family, policy)
      return { rule: 'count-source', set: learn(`sources${suffix}`, family, 'counter', DAY), family, length }
    }),
    ...FAMILIES.map((family): Rule => {
      const { suffix, length } = machine(family, policy)
      const set = learn(`logged${suffix}`, family, 'limit', 60)
      return {
        rule: 'log',
        set,
        family,
        length,
        countedAs,
        limit: LOG_LIMIT,
        prefix: `${verdict}:${policy.name}`,
        group: nflogGroup,
      }
    }),
  ]
  const final = verdict === 'observe' ? 'accept' : policy.action === 'drop' ? 'drop' : 'reset'
  return [
    { name: `attempt-${policy.name}`, base: null, rules: attempt },
    {
      name: `policy-${policy.name}`,
      base: null,
      rules: [
        { rule: 'first', chain: `attempt-${policy.name}` },
        { rule: 'verdict', verdict: final },
      ],
    },
  ]
}

/** The learned set that counts the attempts of a machine, given as the prefix that stands for it. */
export function sourcesSet({ family, length }: Prefix): string {
  return family === 4 ? 'sources4' : `sources6-${length}`
}

/** One machine is one IPv4 address, or one IPv6 prefix of the policy's choice. */
function machine(family: Family, { thresholds }: Policy): { suffix: string; length: number } {
  return family === 4
    ? { suffix: '4', length: 32 }
    : { suffix: `6-${thresholds.ipv6Prefix}`, length: thresholds.ipv6Prefix }
}

function allowedChain(name: string, id: number): Chain {
  return {
    name,
    base: null,
    rules: [
      { rule: 'count-first', id },
      { rule: 'verdict', verdict: 'accept' },
    ],
  }
}

function baseChains({ relays }: Model, { hooks, priority, uids }: CompileOptions): Chain[] {
  const chains: Chain[] = []
  if (hooks.includes('forward')) {
    chains.push({
      name: 'forward',
      base: { hook: 'forward', priority },
      rules: [{ rule: 'port-25', chain: 'egress' }],
    })
  }
  if (hooks.includes('output')) {
    const senders = relays.flatMap(({ users }) => users.flatMap((user) => uids.get(user) ?? []))
    const unique = [...new Set(senders)].sort((a, b) => a - b)
    const rules: Rule[] = [
      { rule: 'loopback' },
      ...(unique.length > 0 ? byUser(unique) : []),
      { rule: 'goto', chain: 'egress' },
    ]
    chains.push({ name: 'local', base: null, rules })
    chains.push({
      name: 'output',
      base: { hook: 'output', priority },
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

function inSet({ name, key }: LookupTable, chain: string): Rule {
  return { rule: 'in-set', table: name, key, chain }
}

function byMap({ name, key }: LookupTable): Rule {
  return { rule: 'by-map', table: name, key }
}

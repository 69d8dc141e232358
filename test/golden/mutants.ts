/** Compilers with one mistake each, such as people make: what finds no fault with them proves nothing. */
import { compile } from '../../src/compile/compile.ts'
import type { Chain, Rule, Ruleset } from '../../src/compile/ruleset.ts'
import type { Exemption, Model, Relay } from '../../src/policy/model.ts'
import type { Kind } from './campaign.ts'
import type { Compile } from './differential.ts'

export interface Mutant {
  readonly name: string
  readonly compiler: Compile
  /** Where the mistake shows; default `plain`. */
  readonly kind?: Kind
}

export const MUTANTS: readonly Mutant[] = [
  { name: 'the shortest match decides', compiler: ruled(shortestFirst) },
  { name: 'the edge of a prefix is off by one', compiler: changed(offByOne) },
  {
    name: 'IPv6 networks are forgotten',
    compiler: ruled((rules) => rules.filter((rule) => !isNetworks(rule, 6))),
  },
  {
    name: 'whose clients a relay has is forgotten',
    compiler: meant((model) => ({
      ...model,
      relays: model.relays.map((relay): Relay => ({ ...relay, clients: null })),
    })),
  },
  {
    name: 'the users of relays are forgotten',
    compiler: ruled((rules) => rules.filter(({ rule }) => rule !== 'users')),
  },
  {
    name: 'where to somebody is exempt is forgotten',
    compiler: exempting((exemption) => ({ ...exemption, destinations: null })),
  },
  {
    name: 'an exemption that ended is in force',
    compiler: ruled((rules) => rules.filter(({ rule }) => rule !== 'until')),
  },
  {
    name: 'an exemption ends a second late',
    kind: 'ending',
    compiler: ruled((rules) =>
      rules.map((rule) => (rule.rule === 'until' ? { ...rule, time: rule.time + 1 } : rule)),
    ),
  },
  {
    name: 'a rate has one connection too many',
    kind: 'rates',
    compiler: ruled((rules) =>
      rules.map((rule) =>
        rule.rule === 'below-rate' ? { ...rule, rate: { ...rule.rate, count: rule.rate.count + 1 } } : rule,
      ),
    ),
  },
  {
    name: 'what is not outside is outbound',
    compiler: (model, options) => compile(model, { ...options, outsideInterfaces: [] }),
  },
  {
    name: 'what is no first packet passes',
    compiler: ruled((rules, { name }) =>
      name.startsWith('policy-') ? [{ rule: 'not-first', chain: 'relayed' }, ...rules] : rules,
    ),
  },
  {
    name: 'the exempt are redirected',
    compiler: ruled((rules, { name }) =>
      name.startsWith('redirecting')
        ? rules.filter((rule) => !('table' in rule && /^(exempt|spared)/.test(rule.table)))
        : rules,
    ),
  },
  {
    name: 'what is observed is not counted',
    compiler: ruled((rules, { name }, model) => {
      const policy = model.policies.find((one) => name === `attempt-${one.name}`)
      return policy?.mode === 'observe' ? rules.filter(({ rule }) => rule !== 'count') : rules
    }),
  },
]

type Rules = (rules: readonly Rule[], chain: Chain, model: Model) => readonly Rule[]

/** Other rules in each chain. */
function ruled(change: Rules): Compile {
  return changed((ruleset, model) => ({
    ...ruleset,
    chains: ruleset.chains.map((chain) => ({ ...chain, rules: change(chain.rules, chain, model) })),
  }))
}

function changed(change: (ruleset: Ruleset, model: Model) => Ruleset): Compile {
  return (model, options) => change(compile(model, options), model)
}

/** Another model. */
function meant(change: (model: Model) => Model): Compile {
  return (model, options) => compile(change(model), options)
}

function exempting(change: (exemption: Exemption) => Exemption): Compile {
  return meant((model) => ({ ...model, exemptions: model.exemptions.map(change) }))
}

function isNetworks(rule: Rule, family?: 4 | 6): boolean {
  return (
    rule.rule === 'by-map' &&
    /^policy[46]-/.test(rule.table) &&
    (family === undefined || rule.key.family === family)
  )
}

function shortestFirst(rules: readonly Rule[]): readonly Rule[] {
  const turned = rules.filter((rule) => isNetworks(rule)).reverse()
  return rules.map((rule) => (isNetworks(rule) ? turned.shift()! : rule))
}

/** The last network of each table begins one address later. */
function offByOne(ruleset: Ruleset): Ruleset {
  const tables = ruleset.tables.map((table) => {
    if (!/^policy4-/.test(table.name)) return table
    const parts = table.parts.map(({ keys: old, target }) => {
      const keys = Uint32Array.from(old as Uint32Array)
      const last = keys.length - 1
      if (keys[last] !== 0xffffffff) keys[last] = keys[last]! + 1
      return { keys, target }
    })
    return { ...table, parts }
  })
  return { ...ruleset, tables }
}

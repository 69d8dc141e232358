/**
 * Rules that follow one another and differ in nothing but their source, taken as one: a thousand lines that let a
 * thousand customers send are one exemption for a thousand customers, and one step for whoever follows the rules.
 */
import { type Space, union } from './ranges.ts'
import { type BaseChain, type Chain, type Condition, type Firewall, namesPort25, type Rule } from './rule.ts'

export interface Unit {
  /** The rule, with the sources of all of them. */
  readonly rule: Rule
  /** As they stand in the input. */
  readonly rules: readonly Rule[]
  /** As people call the chain. */
  readonly chain: string
  /** It, or a jump that leads to it, names port 25. */
  readonly forMail: boolean
  /** Whether any packet to port 25 was found to get there. */
  reached: boolean
  /** Whether it was left out, because of what cannot be seen; that is told elsewhere. */
  doubted: boolean
}

export class Units {
  readonly #chains = new Map<string, readonly Unit[]>()
  readonly #policies = new Map<BaseChain, Unit>()
  readonly #firewall: Firewall

  constructor(firewall: Firewall) {
    this.#firewall = firewall
    const idle = idleChains(firewall)
    const forMail = mailChains(firewall)
    for (const [id, chain] of firewall.chains) this.#chains.set(id, unitsOf(chain, idle, forMail.has(id)))
  }

  /** Of a chain by its key; none of one that is not there. */
  of(id: string): readonly Unit[] {
    return this.#chains.get(id) ?? []
  }

  /** Of all chains but some. */
  allBut(chains: ReadonlySet<string>): readonly Unit[] {
    return [...this.#chains].flatMap(([id, units]) => (chains.has(id) ? [] : units))
  }

  /** The policy of a base chain, as a rule that stands last. */
  ofPolicy(base: BaseChain): Unit {
    const known = this.#policies.get(base)
    if (known !== undefined) return known
    const { where, text } = base
    const rule: Rule = { where, text, comment: null, conditions: [], action: { do: base.policy } }
    const chain = this.#firewall.chains.get(base.chain)?.name ?? ''
    const unit: Unit = { rule, rules: [rule], chain, forMail: false, reached: true, doubted: false }
    this.#policies.set(base, unit)
    return unit
  }
}

/** Chains in which nothing can ever be decided about port 25: a jump to one is no jump. */
function idleChains({ chains }: Firewall): ReadonlySet<string> {
  const busy = new Set<string>()
  const callers = new Map<string, string[]>()
  const queue: string[] = []
  for (const [id, { rules }] of chains) {
    for (const rule of rules) {
      if (isNever(rule) || rule.action.do === 'nothing') continue
      if (rule.action.do === 'jump' || rule.action.do === 'goto') {
        const known = callers.get(rule.action.chain)
        if (known === undefined) callers.set(rule.action.chain, [id])
        else known.push(id)
        // A goto also ends the chain it stands in.
        if (rule.action.do === 'jump') continue
      }
      // A return alone changes nothing where nothing else happens, but a goto may lead past something.
      if (rule.action.do !== 'return') queue.push(id)
    }
  }
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    if (busy.has(id)) continue
    busy.add(id)
    for (const caller of callers.get(id) ?? []) queue.push(caller)
  }
  return new Set([...chains.keys()].filter((id) => !busy.has(id)))
}

/** Chains that rules for port 25 jump to, and so on from there. */
function mailChains({ chains }: Firewall): ReadonlySet<string> {
  const found = new Set<string>()
  const queue: string[] = []
  const follow = (rules: readonly Rule[], all: boolean) => {
    for (const rule of rules) {
      const { action } = rule
      if ((action.do === 'jump' || action.do === 'goto') && (all || namesPort25(rule)))
        queue.push(action.chain)
    }
  }
  for (const { rules } of chains.values()) follow(rules, false)
  for (let id = queue.pop(); id !== undefined; id = queue.pop()) {
    if (found.has(id)) continue
    found.add(id)
    follow(chains.get(id)?.rules ?? [], true)
  }
  return found
}

function isNever({ conditions }: Rule): boolean {
  return conditions.some(({ is }) => is === 'never')
}

function unitsOf(chain: Chain, idle: ReadonlySet<string>, forMail: boolean): readonly Unit[] {
  const units: Unit[] = []
  let gathered: Rule[] = []
  let gatheredBy: string | null = null
  const finish = () => {
    if (gathered.length > 0) units.push(unitOf(chain, gathered, forMail))
    gathered = []
  }
  for (const rule of chain.rules) {
    if (isNever(rule) || rule.action.do === 'nothing') continue
    if (rule.action.do === 'jump' && idle.has(rule.action.chain)) continue
    const key = keyOf(rule)
    if (key === null || key !== gatheredBy) finish()
    gathered.push(rule)
    gatheredBy = key
  }
  finish()
  return units
}

/** Rules with the same key differ in their source alone; null: this one stands for itself. */
function keyOf({ conditions, action, comment }: Rule): string | null {
  if (action.do !== 'accept' && action.do !== 'drop' && action.do !== 'reject') return null
  if (conditions.filter(({ is }) => is === 'source').length !== 1) return null
  const others = conditions.filter(({ is }) => is !== 'source')
  if (others.some((condition) => !isShort(condition))) return null
  const replacer = (_: string, value: unknown) => (typeof value === 'bigint' ? value.toString(36) : value)
  return JSON.stringify([action, comment, others], replacer)
}

function isShort(condition: Condition): boolean {
  if (condition.is === 'destination') return condition.in[4].length + condition.in[6].length <= 16
  return ['port', 'leaves-by', 'redirected'].includes(condition.is)
}

function unitOf({ name }: Chain, rules: readonly Rule[], inMailChain: boolean): Unit {
  const [first] = rules
  if (first === undefined) throw new TypeError('a unit needs a rule')
  const forMail = inMailChain || namesPort25(first)
  if (rules.length === 1) return { rule: first, rules, chain: name, forMail, reached: false, doubted: false }
  const spaces = rules.flatMap(({ conditions }) =>
    conditions.flatMap((condition) => (condition.is === 'source' ? [condition.in] : [])),
  )
  const all: Space = { 4: joined(spaces, 4), 6: joined(spaces, 6) }
  const others = first.conditions.filter(({ is }) => is !== 'source')
  const rule: Rule = { ...first, conditions: [...others, { is: 'source', in: all }] }
  return { rule, rules, chain: name, forMail, reached: false, doubted: false }
}

/** By halves, so that many small sets are not merged into a large one again and again. */
function joined(spaces: readonly Space[], family: 4 | 6): Space[4] {
  if (spaces.length === 1) return spaces[0]![family]
  const middle = spaces.length >> 1
  return union(joined(spaces.slice(0, middle), family), joined(spaces.slice(middle), family))
}

/**
 * What the old rules do with one packet: the plain reading, rule by rule, without any of the set arithmetic of
 * `interpret.ts`, so that each can be held against the other.
 */
import { type Family, formatPrefix, type Prefix } from '../policy/prefix.ts'
import { includes } from './ranges.ts'
import type { Budget } from './region.ts'
import {
  basesAt,
  type Condition,
  type Context,
  type Firewall,
  heldBy,
  MOST_JUMPS,
  type Rule,
} from './rule.ts'

export type OldVerdict = 'allow' | 'drop' | 'reject' | 'redirect'

export interface Evaluation {
  readonly verdict: OldVerdict
  /** Where it is redirected to. */
  readonly to: string | null
  /** Some rule on the way depends on what cannot be seen here, and might have decided otherwise. */
  readonly unsure: boolean
}

interface Packet {
  readonly family: Family
  readonly source: bigint
  readonly destination: bigint
  readonly redirected: boolean
}

type Verdict =
  | { readonly do: 'accept' | 'drop' | 'reject' }
  | { readonly do: 'redirect'; readonly to: Prefix }
  | null

/** Follows one packet to port 25 through nat and filter chains, as nft(8) and iptables(8) order them. */
export function evaluate(
  firewall: Firewall,
  context: Context,
  family: Family,
  source: bigint,
  destination: bigint,
  budget: Budget,
): Evaluation {
  const walk = new Walk(firewall, context, budget)
  const { hook } = context
  let packet: Packet = { family, source, destination, redirected: false }
  let to: string | null = null
  for (const base of basesAt(firewall, hook === 'forward' ? 'prerouting' : 'output', 'nat', family)) {
    const verdict = walk.chain(base.chain, packet, 0)
    walk.settle(verdict?.do ?? 'accept')
    if (verdict?.do !== 'redirect' || verdict.to.family !== family) continue
    packet = { ...packet, destination: BigInt(verdict.to.address), redirected: true }
    to = formatPrefix(verdict.to)
    break
  }
  for (const base of basesAt(firewall, hook, 'filter', family)) {
    const verdict = walk.chain(base.chain, packet, 0)
    const found = verdict?.do ?? base.policy
    walk.settle(found)
    if (found === 'drop' || found === 'reject') return { verdict: found, to: null, unsure: walk.unsure }
  }
  return { verdict: to === null ? 'allow' : 'redirect', to, unsure: walk.unsure }
}

class Walk {
  unsure = false
  /** What rules whose conditions are unknown would have decided in the current base chain. */
  readonly #possible = new Set<string>()
  readonly #firewall: Firewall
  readonly #context: Context
  readonly #budget: Budget

  constructor(firewall: Firewall, context: Context, budget: Budget) {
    this.#firewall = firewall
    this.#context = context
    this.#budget = budget
  }

  /** The end of a base chain: doubts that would not have changed what it found are none. */
  settle(found: string): void {
    for (const other of this.#possible) if (other !== found) this.unsure = true
    this.#possible.clear()
  }

  /** null: the end of the chain, or a return. */
  chain(name: string, packet: Packet, depth: number): Verdict {
    const chain = this.#firewall.chains.get(name)
    if (chain === undefined || depth > MOST_JUMPS) return null
    for (const rule of chain.rules) {
      this.#budget.pay(1)
      const met = this.#met(rule, packet)
      if (met === 'no') continue
      const { action } = rule
      if (action.do === 'unknown') {
        this.#possible.add('unknown')
        continue
      }
      if (met === 'unknown') {
        if (action.do === 'jump' || action.do === 'goto') {
          const verdict = this.chain(action.chain, packet, depth + 1)
          if (verdict !== null) this.#possible.add(verdict.do)
          else if (action.do === 'goto') this.#possible.add('return')
        } else if (action.do !== 'nothing') this.#possible.add(action.do)
        continue
      }
      switch (action.do) {
        case 'return':
          return null
        case 'accept':
        case 'drop':
        case 'reject':
          return { do: action.do }
        case 'redirect':
          return action
        case 'goto':
          return this.chain(action.chain, packet, depth + 1)
        case 'jump': {
          const verdict = this.chain(action.chain, packet, depth + 1)
          if (verdict !== null) return verdict
          break
        }
        case 'nothing':
          break
        default:
          action satisfies never
      }
    }
    return null
  }

  #met(rule: Rule, packet: Packet): 'yes' | 'no' | 'unknown' {
    let unknown = false
    for (const condition of rule.conditions) {
      const held = heldBy(condition, this.#context, packet.redirected) ?? holds(condition, packet)
      if (held === false) return 'no'
      if (held === null) unknown = true
    }
    return unknown ? 'unknown' : 'yes'
  }
}

function holds(condition: Condition, { family, source, destination }: Packet): boolean | null {
  switch (condition.is) {
    case 'source':
      return includes(condition.in[family], source)
    case 'destination':
      return includes(condition.in[family], destination)
    case 'pairs':
      return condition.pairs.some(
        (pair) => includes(pair.source[family], source) && includes(pair.destination[family], destination),
      )
    case 'arrives-by':
      if (condition.sources !== null) return includes(condition.sources[family], source) !== condition.not
      return !condition.not && includes(condition.elsewhere[family], source) ? false : null
    default:
      return null
  }
}

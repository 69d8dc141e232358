/**
 * The old rules and the documents, held against each other with packets at the edges of every prefix that either of
 * them names: between two edges neither can change its mind, so what agrees there agrees everywhere.
 */
import { type Decision, decide } from '../policy/decide.ts'
import type { Model } from '../policy/model.ts'
import { FAMILIES, type Family, formatAddress, formatPrefix, type Prefix } from '../policy/prefix.ts'
import { type Evaluation, evaluate } from './evaluate.ts'
import type { Picture } from './picture.ts'
import { addressOf, everything, includes, type Ranges, rangeOf, type Space } from './ranges.ts'
import { Budget } from './region.ts'
import { type Remarks, shown } from './remark.ts'
import type { Condition, Context, Firewall } from './rule.ts'

/** So many steps through rules and prefixes: about a second. */
const STEPS = 20_000_000
const MOST_DIFFERENCES = 100
const MOST_KIN = 10_000

export interface Compared {
  /** Pairs of source and destination that were tried. */
  readonly pairs: number
  readonly differences: number
}

/** Tells of every pair at an edge for which old and new verdict differ; pairs that no one can judge are left out. */
export function compare(
  firewall: Firewall,
  model: Model,
  picture: Picture,
  local: Space | null,
  now: number,
  remarks: Remarks,
): Compared {
  const comparison = new Comparison(firewall, model, picture, now, remarks)
  for (const family of FAMILIES) {
    const edges = edgesOf(firewall, model, family, local)
    for (const [nth, context] of picture.contexts.entries()) {
      const own = local?.[family] ?? null
      const divided = own !== null && picture.hooks.length === 2
      const sources = divided
        ? edges.sources.filter((address) => includes(own, address) === (context.hook === 'output'))
        : edges.sources
      const left = FAMILIES.length * picture.contexts.length - nth
      const kin = divided ? edges.kin.filter(([source]) => sources.includes(source)) : edges.kin
      comparison.run(context, family, sources, edges.destinations, kin, left)
    }
  }
  return comparison.finish()
}

class Comparison {
  #pairs = 0
  #differences = 0
  #left = 0
  #steps = STEPS
  readonly #firewall: Firewall
  readonly #model: Model
  readonly #picture: Picture
  readonly #now: number
  readonly #remarks: Remarks
  readonly #weight: number

  constructor(firewall: Firewall, model: Model, picture: Picture, now: number, remarks: Remarks) {
    this.#firewall = firewall
    this.#model = model
    this.#picture = picture
    this.#now = now
    this.#remarks = remarks
    this.#weight = 10 + weightOf(model)
  }

  run(
    context: Context,
    family: Family,
    sources: readonly bigint[],
    destinations: readonly bigint[],
    kin: readonly (readonly [bigint, bigint])[],
    share: number,
  ): void {
    const allowance = new Budget(Number.MAX_SAFE_INTEGER)
    let spent = 0
    const limit = this.#steps / share
    const pairs = sources.length * destinations.length
    // A stride without a common divisor walks through all pairs, far apart ones first, so that a part is a fair one.
    const stride = coprime(Math.max(1, Math.floor(pairs * 0.618)), pairs)
    const perPair = this.#weight + ruleCount(this.#firewall) * 0.3
    // Where not all can be tried, those that one rule names together tell the most.
    if (pairs * perPair > limit) {
      for (const [source, destination] of kin) {
        if (spent > limit / 2) break
        spent += perPair
        this.#pair(context, family, source, destination, allowance)
      }
    }
    for (let nth = 0, at = 0; nth < pairs; nth++, at = (at + stride) % pairs) {
      if (spent > limit) {
        this.#left += pairs - nth
        break
      }
      spent += perPair
      const source = sources[at % sources.length]!
      const destination = destinations[Math.floor(at / sources.length)]!
      this.#pair(context, family, source, destination, allowance)
    }
    this.#steps -= spent
  }

  #pair(context: Context, family: Family, source: bigint, destination: bigint, budget: Budget): void {
    const old = evaluate(this.#firewall, context, family, source, destination, budget)
    if (old.unsure || this.#isIgnored(context, family, source, destination)) return
    this.#pairs++
    const packet = {
      source: addressOf(family, source),
      destination: addressOf(family, destination),
      port: 25,
      user: context.user,
    }
    const was = oldText(old, packet.destination)
    const is = newText(decide(this.#model, packet, this.#now), packet.destination)
    if (was === is) return
    this.#differences++
    if (this.#differences > MOST_DIFFERENCES) return
    const { hook, leavesBy, user } = context
    const how = `${hook}${leavesBy === null ? '' : `, by ${shown(leavesBy, 20)}`}${user === null ? '' : `, user ${user}`}`
    const pair = `${formatAddress(packet.source)} to ${formatAddress(packet.destination)} (${how})`
    this.#remarks.add('error', 'differs', '', `${pair}: the old rules say ${was}, the documents ${is}`)
  }

  #isIgnored(context: Context, family: Family, source: bigint, destination: bigint): boolean {
    return this.#picture
      .ignored(context, family)
      .some((part) => includes(part.source, source) && includes(part.destination, destination))
  }

  finish(): Compared {
    if (this.#differences > MOST_DIFFERENCES) {
      const message = `and ${this.#differences - MOST_DIFFERENCES} more pairs`
      this.#remarks.add('error', 'more-differences', '', message)
    }
    if (this.#left > 0) {
      const message = `${this.#pairs} pairs at the edges of prefixes were compared, and ${this.#left} were not`
      this.#remarks.add('note', 'compared-in-part', '', message)
    }
    return { pairs: this.#pairs, differences: this.#differences }
  }
}

/** To be sent to a relay that one speaks to anyhow is to be let through. */
function oldText({ verdict, to }: Evaluation, destination: Prefix): string {
  if (verdict !== 'redirect') return verdict
  return to === formatPrefix(destination) ? 'allow' : `redirect to ${to}`
}

function newText(decision: Decision, destination: Prefix): string {
  switch (decision.verdict) {
    case 'allow':
    case 'ungoverned':
    case 'observe':
      return 'allow'
    case 'block':
      return decision.document.action === 'drop' ? 'drop' : 'reject'
    case 'redirect': {
      const { redirect } = decision.document
      const target = destination.family === 4 ? redirect?.target4 : redirect?.target6
      const to = target ? formatPrefix(target) : ''
      return to === formatPrefix(destination) ? 'allow' : `redirect to ${to}`
    }
    default:
      return decision satisfies never
  }
}

function edgesOf(
  firewall: Firewall,
  model: Model,
  family: Family,
  local: Space | null,
): { sources: bigint[]; destinations: bigint[]; kin: [bigint, bigint][] } {
  const kin: [bigint, bigint][] = []
  const sources = new Edges(family)
  const destinations = new Edges(family)
  for (const { rules } of firewall.chains.values()) {
    for (const { conditions, action } of rules) {
      if (conditions.some(({ is }) => is === 'never')) continue
      for (const condition of conditions) {
        if (condition.is === 'source') sources.add(condition.in[family])
        else if (condition.is === 'destination') destinations.add(condition.in[family])
        else if (condition.is === 'arrives-by') {
          sources.add(condition.sources?.[family] ?? condition.elsewhere[family])
        } else if (condition.is === 'pairs') {
          for (const pair of condition.pairs) {
            sources.add(pair.source[family])
            destinations.add(pair.destination[family])
          }
        }
      }
      if (kin.length < MOST_KIN) kin.push(...kinOf(conditions, family))
      if (action.do === 'redirect') {
        sources.addPrefixes([action.to])
        destinations.addPrefixes([action.to])
      }
    }
  }
  for (const { networks } of model.policies) sources.addPrefixes(networks)
  for (const relay of model.relays) {
    sources.addPrefixes([...relay.addresses, ...(relay.clients ?? [])])
    destinations.addPrefixes(relay.addresses)
  }
  for (const exemption of model.exemptions) {
    sources.addPrefixes(exemption.sources)
    destinations.addPrefixes(exemption.destinations ?? [])
  }
  if (local !== null) sources.add(local[family])
  return { sources: sources.list(), destinations: destinations.list(), kin }
}

/** The first source and destination that a rule names together. */
function kinOf(conditions: readonly Condition[], family: Family): [bigint, bigint][] {
  const source = conditions.find(({ is }) => is === 'source')
  const destination = conditions.find(({ is }) => is === 'destination')
  if (source?.is !== 'source' || destination?.is !== 'destination') return []
  const [from, to] = [source.in[family][0], destination.in[family][0]]
  return from === undefined || to === undefined ? [] : [[from.first, to.first]]
}

const LOOPBACK: Readonly<Record<Family, { first: bigint; last: bigint }>> = {
  4: { first: 127n << 24n, last: (128n << 24n) - 1n },
  6: { first: 1n, last: 1n },
}
const MAPPED = { first: 0xffffn << 32n, last: (0x10000n << 32n) - 1n }
/** Where nothing is named, one address is as good as any: of those set aside for examples. */
const SOMEWHERE: Readonly<Record<Family, bigint>> = { 4: 0xcb007109n, 6: (0x20010db8n << 96n) | 0x9n }

class Edges {
  readonly #found = new Set<bigint>()
  readonly #seen = new WeakSet<Ranges>()
  readonly #family: Family
  readonly #last: bigint

  constructor(family: Family) {
    this.#family = family
    this.#last = everything(family)[0]!.last
    this.#add(SOMEWHERE[family])
  }

  add(ranges: Ranges): void {
    if (this.#seen.has(ranges)) return
    this.#seen.add(ranges)
    for (const { first, last } of ranges) {
      if (first === 0n && last === this.#last) continue
      for (const edge of [first - 1n, first, last, last + 1n]) this.#add(edge)
    }
  }

  addPrefixes(prefixes: Iterable<Prefix>): void {
    this.add([...prefixes].filter(({ family }) => family === this.#family).map((prefix) => rangeOf(prefix)))
  }

  /** What never goes out to anywhere is left out: loopback, and IPv4 dressed up as IPv6. */
  #add(address: bigint): void {
    if (address < 0n || address > this.#last) return
    const loopback = LOOPBACK[this.#family]
    if (address >= loopback.first && address <= loopback.last) return
    if (this.#family === 6 && address >= MAPPED.first && address <= MAPPED.last) return
    this.#found.add(address)
  }

  list(): bigint[] {
    return [...this.#found].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  }
}

function ruleCount({ chains }: Firewall): number {
  let count = 0
  for (const { rules } of chains.values()) count += rules.length
  return count
}

function weightOf({ policies, relays, exemptions }: Model): number {
  let count = 0
  for (const { networks } of policies) count += networks.size
  for (const { addresses, clients } of relays) count += 2 * addresses.size + (clients?.size ?? 0)
  for (const { sources, destinations } of exemptions) count += sources.size + (destinations?.size ?? 0)
  return count
}

function coprime(stride: number, count: number): number {
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b))
  for (let found = stride; found < count; found++) if (divisor(found, count) === 1) return found
  return 1
}

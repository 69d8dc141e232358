/** From what is governed and allowed to policy documents, with names that say where they come from. */
import { FAMILIES, type Family, formatPrefix, type Prefix } from '../policy/prefix.ts'
import type { Document } from '../policy/schema.ts'
import { type Allowed, type As, allow, bothFamilies, type ExemptionPlan, type RelayPlan } from './allow.ts'
import { govern } from './govern.ts'
import type { Decided } from './interpret.ts'
import type { Picture } from './picture.ts'
import { everything } from './ranges.ts'
import type { Budget } from './region.ts'
import { type Remarks, shown } from './remark.ts'
import type { Unit } from './units.ts'

/** A document takes 100,000; a file is to stay readable, and below its limit. */
const MOST_PREFIXES = 50_000
const MOST_PAIRS = 1_000_000

/** Nobody's address: loopback is not outbound, so a relay that is only its users needs no other. */
const NOBODY = '127.0.0.1'

export interface Written {
  readonly documents: readonly Document[]
  /** Units of which a document came. */
  readonly used: ReadonlySet<Unit>
}

export function writeDocuments(picture: Picture, as: As, budget: Budget, remarks: Remarks): Written {
  const governed = picture.families.map((family) => govern(family, budget))
  const allowed = allow(picture.families, governed, as, budget)
  const writer = new Writer(remarks)
  const { relays, exemptions }: Allowed = allowed
  const relayNames = new Map<RelayPlan, string>()
  for (const plan of relays) relayNames.set(plan, writer.relay(plan))
  for (const { policies } of merged(governed.flatMap(({ policies }) => policies))) {
    const [first] = policies
    if (first === undefined) continue
    const { to } = first.decided
    const target = to === null ? undefined : relays.find((plan) => holdsOnly(plan, to))
    writer.policy(
      first.decided,
      policies.flatMap(({ networks }) => networks),
      target === undefined ? null : (relayNames.get(target) ?? null),
    )
  }
  for (const plan of exemptions) writer.exemption(plan)
  if (picture.users.length > 0) writer.users(picture.users)
  return { documents: inKindOrder(writer.documents), used: writer.used }
}

interface Networks {
  readonly decided: Decided
  readonly networks: readonly Prefix[]
}

/** A rule for both families is one policy. */
function merged(policies: readonly Networks[]): { policies: Networks[] }[] {
  const groups = new Map<string, { policies: Networks[] }>()
  const units = new Map<Unit, number>()
  for (const policy of policies) {
    const { unit, outcome, to } = policy.decided
    if (!units.has(unit)) units.set(unit, units.size)
    const key = `${units.get(unit)} ${outcome} ${to === null ? '' : formatPrefix(to)}`
    const group = groups.get(key) ?? { policies: [] }
    group.policies.push(policy)
    groups.set(key, group)
  }
  return [...groups.values()]
}

function holdsOnly({ addresses }: RelayPlan, to: Prefix): boolean {
  const [only, ...others] = addresses[to.family]
  return others.length === 0 && only?.first === BigInt(to.address) && only.last === only.first
}

class Writer {
  readonly documents: Document[] = []
  readonly used = new Set<Unit>()
  readonly #names = new Set<string>()
  readonly #counts = new Map<string, number>()
  readonly #remarks: Remarks

  constructor(remarks: Remarks) {
    this.#remarks = remarks
  }

  policy({ unit, outcome }: Decided, networks: readonly Prefix[], relay: string | null): void {
    this.used.add(unit)
    const { action, where, text } = unit.rule
    if (action.do === 'reject' && !action.tcpReset) {
      this.#remarks.add('note', 'reject-with', where, `egress25 refuses with a TCP reset: ${text}`)
    }
    const everybody = networks.filter(({ length }) => length === 0).map(formatPrefix)
    if (everybody.length > 0) {
      const message =
        `this governs ${everybody.join(' and ')}, also who sends mail to this network from the internet, unless ` +
        `firewall.outside_interfaces says what is outside: ${text}`
      this.#remarks.add('warning', 'governs-everybody', where, message)
    }
    for (const part of chunks(networks, MOST_PREFIXES)) {
      this.documents.push({
        kind: 'policy',
        name: this.#name('policy', unit, outcome),
        description: describe([unit]),
        networks: part.map(formatPrefix),
        ...(relay !== null && outcome === 'redirect'
          ? { action: 'redirect', redirect_to: relay }
          : { action: outcome === 'drop' ? 'drop' : 'reject' }),
      } as Document)
    }
  }

  /** Answers the name of the first of them, where it is too large for one. */
  relay(plan: RelayPlan): string {
    for (const unit of plan.units) this.used.add(unit)
    const [unit] = plan.units
    if (unit?.rule.action.do === 'accept') {
      const message = `${shown(bothFamilies(plan.addresses).map(formatPrefix).join(', '), 100)} may send to anywhere, and was taken for a relay (--as exemption: never)`
      this.#remarks.add('note', 'assumed', unit.rule.where, message)
    }
    const all = bothFamilies(plan.addresses)
    let first: string | null = null
    for (const part of chunks(all, MOST_PREFIXES)) {
      const name = this.#name('relay', unit!, 'relay', nameOfAddresses(part))
      first ??= name
      const clients = clientsOf(plan, part)
      this.documents.push({
        kind: 'relay',
        name,
        description: describe(plan.units),
        addresses: part.map(formatPrefix),
        ...(clients === null ? {} : { clients: clients.map(formatPrefix) }),
      })
    }
    return first ?? ''
  }

  exemption({ unit, sources, destinations }: ExemptionPlan): void {
    this.used.add(unit)
    const to = destinations === null ? [null] : chunks(bothFamilies(destinations), MOST_PREFIXES)
    for (const part of to) {
      const most = part === null ? MOST_PREFIXES : Math.max(1, Math.floor(MOST_PAIRS / part.length))
      for (const from of chunks(bothFamilies(sources), Math.min(most, MOST_PREFIXES))) {
        this.documents.push({
          kind: 'exemption',
          name: this.#name('exemption', unit, 'exempt'),
          sources: from.map(formatPrefix),
          ...(part === null ? {} : { destinations: part.map(formatPrefix) }),
          reason: describe([unit]),
        })
      }
    }
  }

  users(users: readonly string[]): void {
    const message = `${users.join(', ')}: a relay needs an address, so it has ${NOBODY}, from which nothing goes out`
    this.#remarks.add('note', 'local-user', '', message)
    for (const part of chunks(users, 100)) {
      this.documents.push({
        kind: 'relay',
        name: this.#unique('relay', 'local-users'),
        description: 'Users of the gateway itself who may send to anywhere.',
        addresses: [NOBODY],
        clients: [NOBODY],
        users: [...part],
      })
    }
  }

  /** After the rule's comment; else as the thing itself would be called; else after the chain. */
  #name(kind: string, unit: Unit, what: string, own: string | null = null): string {
    const { comment } = unit.rule
    const slug = comment === null ? '' : slugOf(comment)
    return this.#unique(kind, slug || slugOf(own ?? `${unit.chain}-${what}`) || what)
  }

  #unique(kind: string, wanted: string): string {
    let name = wanted
    let nth = this.#counts.get(`${kind} ${wanted}`) ?? 1
    while (this.#names.has(`${kind} ${name}`)) name = `${wanted.slice(0, 40)}-${++nth}`
    this.#counts.set(`${kind} ${wanted}`, nth)
    this.#names.add(`${kind} ${name}`)
    return name
  }
}

function inKindOrder(documents: readonly Document[]): Document[] {
  const kinds = ['policy', 'relay', 'exemption', 'list', 'test']
  return [...documents].sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind))
}

/** null: everyone. A relay to which nobody may submit has itself as its only client. */
function clientsOf({ addresses, clients }: RelayPlan, own: readonly Prefix[]): Prefix[] | null {
  const used = FAMILIES.filter((family) => addresses[family].length > 0)
  if (used.every((family) => clients[family] === null)) return null
  const of = (family: Family) => clients[family] ?? everything(family)
  const named = bothFamilies({
    4: used.includes(4) ? of(4) : [],
    6: used.includes(6) ? of(6) : [],
  })
  return named.length > 0 ? named : [...own]
}

function nameOfAddresses(addresses: readonly Prefix[]): string | null {
  const [only, ...others] = addresses
  return others.length === 0 && only !== undefined ? `relay-${formatPrefix(only)}` : null
}

function slugOf(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/g, '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 44)
    .replace(/-+$/, '')
}

/** Where it comes from, for people. */
function describe(units: readonly Unit[]): string {
  const rules = units.flatMap((unit) => unit.rules)
  const [first] = rules
  const more = rules.length > 1 ? ` and ${rules.length - 1} more` : ''
  return shown(`Imported from ${first?.where}${more}: ${first?.text}`, 500)
}

function chunks<T>(list: readonly T[], most: number): T[][] {
  const parts: T[][] = []
  for (let at = 0; at < list.length; at += most) parts.push(list.slice(at, at + most))
  return parts
}

/** Rules for mail without a document and without a remark of their own: why. */
export function tellUnused(units: readonly Unit[], used: ReadonlySet<Unit>, remarks: Remarks): void {
  for (const unit of units) {
    if (!unit.forMail || unit.doubted || used.has(unit)) continue
    const { where, text, action, conditions } = unit.rule
    if (!['accept', 'drop', 'reject', 'redirect'].includes(action.do)) continue
    if (conditions.some(({ is }) => is === 'unknown' || is === 'user')) continue
    if (!unit.reached) {
      remarks.add('note', 'shadowed', where, `nothing for port 25 gets here: ${text}`)
    } else remarks.add('note', 'no-effect', where, `no document came of this: ${text}`)
  }
}

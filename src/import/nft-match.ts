/** One match of an nft rule to conditions, as nft(8) and libnftables-json(5) describe them. */
import type { Family } from '../policy/prefix.ts'
import {
  addressCondition,
  destinationKindCondition,
  familyCondition,
  flagsCondition,
  interfaceCondition,
  isServiceName,
  NEVER,
  type Ports,
  pairOf,
  parsePorts,
  portCondition,
  protocolCondition,
  type Surroundings,
  sourcePortCondition,
  stateCondition,
  unknown,
  userCondition,
} from './conditions.ts'
import { isRecord, items, only, record, scalar } from './json.ts'
import { addressRange, type FindSet, plainText, Unreadable, type Values, valuesOf } from './nft-values.ts'
import { normalise } from './ranges.ts'
import type { Remarks } from './remark.ts'
import type { Condition } from './rule.ts'

export interface MatchContext {
  readonly findSet: FindSet
  readonly surroundings: Surroundings
  readonly remarks: Remarks
  /** The rule, for remarks. */
  readonly where: string
}

/** Conditions of a `match` statement; none: it is always met. */
export function matchConditions(body: unknown, context: MatchContext): Condition[] {
  const { op, left, right } = record(body)
  try {
    if (op === '<' || op === '>' || op === '<=' || op === '>=') {
      return fieldConditions(left, { values: [openRange(op, right)], expires: null }, false, context)
    }
    if (op !== '==' && op !== 'in' && op !== '!=' && op !== undefined) {
      return [unknown(`the comparison ${String(scalar(op) ?? '')}`)]
    }
    const values = valuesOf(right, context.findSet)
    tellExpiry(values.expires, context)
    const not = op === '!='
    if (values.values.length < 64) return fieldConditions(left, values, not, context)
    return remembered(values, `${not} ${stringify(left)}`, () => fieldConditions(left, values, not, context))
  } catch (error) {
    return [unreadable(error, context)]
  }
}

const memory = new WeakMap<Values, Map<string, Condition[]>>()

/** A large set is read once, however many rules name it. */
function remembered(values: Values, key: string, read: () => Condition[]): Condition[] {
  const known = memory.get(values) ?? new Map<string, Condition[]>()
  memory.set(values, known)
  const conditions = known.get(key) ?? read()
  known.set(key, conditions)
  return conditions
}

function stringify(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch {
    throw new Unreadable('an expression that nests too deeply')
  }
}

/** Conditions for one key of a verdict map. */
export function keyConditions(left: unknown, value: unknown, context: MatchContext): Condition[] {
  try {
    return fieldConditions(left, { values: [value], expires: null }, false, context)
  } catch (error) {
    return [unreadable(error, context)]
  }
}

export function tellExpiry(expires: string | null, { remarks, where }: MatchContext): void {
  if (expires === null) return
  const message = `elements of the set go by themselves, the first in ${expires} s; what is written here stays`
  remarks.add('error', 'expires', where, message)
}

/** What could not be read makes the condition unknown; any other error is a mistake of this program. */
export function unreadable(error: unknown, { remarks, where }: MatchContext): Condition {
  if (!(error instanceof Unreadable)) throw error
  if (error.missingSet !== null)
    remarks.add('error', 'unknown-set', where, `there is no set ${error.missingSet}`)
  return unknown(error.message)
}

function openRange(op: string, right: unknown): unknown {
  const value = Number(scalar(right) ?? Number.NaN)
  if (!Number.isInteger(value)) throw new Unreadable('a comparison with something else than a number')
  if (op === '<' || op === '<=') return { range: [0, op === '<' ? value - 1 : value] }
  return { range: [op === '>' ? value + 1 : value, 65_535] }
}

function fieldConditions(
  left: unknown,
  { values }: Values,
  not: boolean,
  context: MatchContext,
): Condition[] {
  const [kind, body] = only(left)
  switch (kind) {
    case 'payload':
      return payload(record(body), values, not)
    case 'meta':
      return meta(scalar(record(body)['key']) ?? '', values, not, context)
    case 'ct':
      return conntrack(scalar(record(body)['key']) ?? '', values, not)
    case 'fib': {
      const { result, flags } = record(body)
      const of = typeof flags === 'string' ? [flags] : items(flags)
      if (result !== 'type' || of[0] !== 'daddr') return [unknown('what the routes say')]
      return always(destinationKindCondition(values.map(plainText), not))
    }
    case 'concat':
      return concatenation(items(body), values, not, context)
    case '&':
      return masked(items(body), values, not)
    case 'exthdr':
    case 'tcp option':
    case 'ip option':
    case 'sctp chunk':
    case 'dccp option':
      return [unknown('options or extension headers')]
    default:
      return [unknown(kind === '' ? 'an expression' : `the expression ${kind.slice(0, 40)}`)]
  }
}

function always(condition: Condition | null): Condition[] {
  return condition === null ? [] : [condition]
}

const NOT_TCP = ['udp', 'udplite', 'icmp', 'icmpv6', 'igmp', 'sctp', 'dccp', 'esp', 'ah', 'comp', 'arp']

function payload(
  { protocol, field }: Readonly<Record<string, unknown>>,
  values: readonly unknown[],
  not: boolean,
): Condition[] {
  if (typeof protocol !== 'string') return [unknown('raw bytes of the packet')]
  if (NOT_TCP.includes(protocol)) return [NEVER]
  if (protocol === 'ip' || protocol === 'ip6') {
    const family: Family = protocol === 'ip' ? 4 : 6
    if (field === 'saddr' || field === 'daddr') {
      const ranges = normalise(values.map((value) => addressRange(value, family)))
      return [addressCondition(field === 'saddr' ? 'source' : 'destination', family, ranges, not)]
    }
    const only = familyCondition([family], false)
    if (field === 'protocol' || field === 'nexthdr') {
      return [only, ...always(protocolCondition(values.map(plainText), not))]
    }
    if (field === 'version') return [only]
    return [only, unknown(`${protocol} ${String(field)}`)]
  }
  if (protocol === 'tcp' || protocol === 'th') {
    if (field === 'dport') return always(portCondition(ports(values), not))
    if (field === 'sport') return always(sourcePortCondition(ports(values), not))
    if (field === 'flags') return always(flagsCondition(['all'], values.map(plainText), not))
  }
  return [unknown(`${protocol} ${String(field)}`)]
}

function ports(values: readonly unknown[]): Ports[] {
  return values.flatMap((value) => {
    const text = plainText(value)
    const found = parsePorts(text, '-')
    if (found !== null) return [found]
    // `nft -N` names services; any name but smtp is another port.
    if (isServiceName(text)) return []
    throw new Unreadable('a port of a form that is not known')
  })
}

function meta(
  key: string,
  values: readonly unknown[],
  not: boolean,
  { surroundings, remarks, where }: MatchContext,
): Condition[] {
  switch (key) {
    case 'l4proto':
      return always(protocolCondition(values.map(plainText), not))
    case 'nfproto':
    case 'protocol': {
      const names = values.map(plainText).map((name) => name.toLowerCase())
      const of = (family: Family, ...known: string[]) =>
        names.some((name) => known.includes(name)) ? [family] : []
      return [
        familyCondition(
          [...of(4, 'ipv4', '2', 'ip', '8', '2048'), ...of(6, 'ipv6', '10', 'ip6', '34525')],
          not,
        ),
      ]
    }
    case 'iif':
    case 'iifname':
      return always(interfaceCondition('arrives', interfaces(values), not, surroundings))
    case 'oif':
    case 'oifname':
      return always(interfaceCondition('leaves', interfaces(values), not, surroundings))
    case 'skuid': {
      const { condition, nameless } = userCondition(values.map(plainText), not, surroundings)
      if (nameless !== null) tellNameless(nameless, remarks, where)
      return [condition]
    }
    case 'pkttype': {
      const unicast = values.some((value) => ['host', 'unicast', 'other', 0, 3].includes(value as string))
      return unicast === not ? [NEVER] : []
    }
    default:
      return [unknown(`meta ${key.slice(0, 40)}`)]
  }
}

export function tellNameless(user: string, remarks: Remarks, where: string): void {
  const message = `user ${user} has no name here that a relay's users could have`
  remarks.add('error', 'unknown-user', where, message)
}

function interfaces(values: readonly unknown[]): string[] {
  return values.map((value) => {
    const text = plainText(value)
    // An index without a name: the interface is gone, or the listing came from elsewhere.
    if (typeof value === 'number') throw new Unreadable(`interface number ${text}`)
    return text
  })
}

function conntrack(key: string, values: readonly unknown[], not: boolean): Condition[] {
  const names = values.map(plainText)
  switch (key) {
    case 'state':
      return always(stateCondition(names, not))
    case 'direction':
      return names.includes('original') === not ? [{ is: 'never', later: true }] : []
    case 'status':
      if (names.length === 1 && names[0] === 'dnat') return [{ is: 'redirected', not }]
      return [unknown('ct status')]
    default:
      return [unknown(`ct ${key.slice(0, 40)}`)]
  }
}

/** `tcp flags & (fin|syn|rst|ack) == syn`, and addresses under a mask that is a prefix. */
function masked(operands: readonly unknown[], values: readonly unknown[], not: boolean): Condition[] {
  const [kind, body] = only(operands[0])
  const { protocol, field } = record(body)
  if (kind !== 'payload') return [unknown('a masked field')]
  if (protocol === 'tcp' && field === 'flags') {
    const mask = valuesOf(operands[1], () => null).values.map(plainText)
    return always(flagsCondition(mask, values.map(plainText), not))
  }
  return [unknown(`${String(scalar(protocol) ?? '')} ${String(scalar(field) ?? '')} under a mask`.trim())]
}

function concatenation(
  fields: readonly unknown[],
  values: readonly unknown[],
  not: boolean,
  context: MatchContext,
): Condition[] {
  const entries = values.map((value) => {
    const parts = isRecord(value) ? items(value['concat']) : []
    if (parts.length !== fields.length) throw new Unreadable('a concatenation of another length')
    return fields.flatMap((field, index) =>
      fieldConditions(field, { values: [parts[index]], expires: null }, false, context),
    )
  })
  const met = entries.filter((conditions) => !conditions.some(({ is }) => is === 'never'))
  if (met.length === 0) return not ? [] : [NEVER]
  if (not) return [unknown('a negated concatenation')]
  if (met.length === 1) return met[0]!
  const plain = met.every((conditions) =>
    conditions.every(({ is }) => is === 'source' || is === 'destination' || is === 'port'),
  )
  if (!plain) return [unknown('a concatenation with more than addresses and ports')]
  const port = met.flatMap((conditions) => conditions.filter(({ is }) => is === 'port'))
  // Named in one element and not in another: then the set as a whole is for more than mail.
  const named: Condition[] = port.length === 0 ? [] : [{ is: 'port', others: met.length < entries.length }]
  return [...named, { is: 'pairs', pairs: met.map(pairOf) }]
}

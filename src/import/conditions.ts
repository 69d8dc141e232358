/**
 * From what a rule says about a field to conditions, the same for nft and iptables. Each answers null where a new TCP
 * connection to port 25 always meets it.
 */
import { addressBits, type Family, mask4, mask6, parseAddress, parsePrefix } from '../policy/prefix.ts'
import {
  complement,
  everything,
  intersect,
  NONE,
  NOWHERE,
  normalise,
  type Range,
  type Ranges,
  type Space,
  union,
} from './ranges.ts'
import type { Condition } from './rule.ts'

export const NEVER: Condition = { is: 'never', later: false }
const LATER: Condition = { is: 'never', later: true }

export function unknown(what: string): Condition {
  return { is: 'unknown', what }
}

/** What the caller knows beyond the rules. */
export interface Surroundings {
  /** What lies behind interfaces, as far as it was said. */
  readonly behind: ReadonlyMap<string, Space>
  /** The name of a user id; null when it has none. */
  userName(uid: number): string | null
}

/** Ranges of ports, both ends included. */
export interface Ports {
  readonly first: number
  readonly last: number
}

const ALL_PORTS = 65_535

export function portCondition(ports: readonly Ports[], not: boolean): Condition | null {
  const named = ports.some(({ first, last }) => first <= 25 && 25 <= last)
  if (named === not) return NEVER
  if (not) return null
  const count = ports.reduce((sum, { first, last }) => sum + last - first + 1, 0)
  // Whoever names (nearly) all ports did not think of mail.
  return count >= ALL_PORTS - 1 ? null : { is: 'port', others: count > 1 }
}

export function sourcePortCondition(ports: readonly Ports[], not: boolean): Condition | null {
  const all = ports.some(({ first, last }) => first <= 1 && last === ALL_PORTS)
  if (all) return not ? NEVER : null
  return unknown('the source port')
}

/** `25`, `20-30` (or with another separator) or the service `smtp`; other names are not port 25. */
export function parsePorts(text: string, separator: string): Ports | null {
  if (text === 'smtp' || text === 'mail') return { first: 25, last: 25 }
  const at = text.indexOf(separator)
  const [low, high] = at < 0 ? [text, text] : [text.slice(0, at), text.slice(at + separator.length)]
  const first = low === '' && at >= 0 ? 0 : parsePort(low)
  const last = high === '' && at >= 0 ? ALL_PORTS : parsePort(high)
  if (first === null || last === null || first > last) return null
  return { first, last }
}

function parsePort(text: string): number | null {
  if (text === 'smtp') return 25
  return /^\d{1,5}$/.test(text) && Number(text) <= ALL_PORTS ? Number(text) : null
}

/** Any name of a service but that of port 25 is another port. */
export function isServiceName(text: string): boolean {
  return /^[a-z][a-z0-9._+-]{0,63}$/i.test(text)
}

export function protocolCondition(protocols: readonly string[], not: boolean): Condition | null {
  const tcp = protocols.some((name) => ['tcp', '6', 'all', '0'].includes(name.toLowerCase()))
  return tcp === not ? NEVER : null
}

/** States of conntrack; a rule for new connections and a rule for established ones are different rules. */
export function stateCondition(states: readonly string[], not: boolean): Condition | null {
  const names = states.map((state) => state.toLowerCase())
  const known = ['new', 'established', 'related', 'invalid', 'untracked', 'snat', 'dnat']
  if (names.some((name) => !known.includes(name))) return unknown('the state of the connection')
  if (names.includes('dnat') || names.includes('snat')) {
    if (names.length > 1) return unknown('the state of the connection')
    return names[0] === 'dnat' ? { is: 'redirected', not } : unknown('whether its source was changed')
  }
  if (names.includes('new') !== not) return null
  const later = (names.includes('established') || names.includes('related')) !== not
  return later ? LATER : NEVER
}

export function interfaceCondition(
  side: 'arrives' | 'leaves',
  names: readonly string[],
  not: boolean,
  { behind }: Surroundings,
): Condition | null {
  if (names.some((name) => name === '*' || name === '')) return not ? NEVER : null
  if (side === 'leaves') return { is: 'leaves-by', names, not }
  const spaces = names.map((name) => behind.get(name))
  const elsewhere = [...behind].flatMap(([name, space]) =>
    names.some((other) => other === name || (other.endsWith('*') && name.startsWith(other.slice(0, -1))))
      ? []
      : [space],
  )
  const sources = spaces.some((space) => space === undefined) ? null : joinSpaces(spaces as Space[])
  return { is: 'arrives-by', names, not, sources, elsewhere: joinSpaces(elsewhere) }
}

/** Users by name or number; a number without a name cannot be written into a policy. */
export function userCondition(
  users: readonly string[],
  not: boolean,
  { userName }: Surroundings,
): { condition: Condition; nameless: string | null } {
  const names: string[] = []
  for (const user of users) {
    const name = /^\d{1,10}$/.test(user) ? userName(Number(user)) : user
    if (name === null || !/^[a-z_][a-z0-9_-]{0,31}$/.test(name)) {
      return { condition: unknown(`the user ${user}`), nameless: user }
    }
    names.push(name)
  }
  return { condition: { is: 'user', users: names, not }, nameless: null }
}

/** Kinds of destination address, as the kernel's routes know them. */
export function destinationKindCondition(kinds: readonly string[], not: boolean): Condition | null {
  const known = ['unicast', 'local', 'broadcast', 'multicast', 'anycast']
  const names = kinds.map((kind) => kind.toLowerCase())
  if (names.some((name) => !known.includes(name))) return unknown('the kind of its destination address')
  // What is outbound goes to one machine elsewhere.
  return names.includes('unicast') === not ? NEVER : null
}

/** The flags that a first packet has: SYN, and nothing else among those looked at. */
export function flagsCondition(
  mask: readonly string[],
  flags: readonly string[],
  not: boolean,
): Condition | null {
  const lower = (names: readonly string[]) => names.map((name) => name.toLowerCase())
  const [looked, wanted] = [lower(mask), lower(flags)]
  const isSyn =
    looked.includes('syn') || looked.includes('all')
      ? wanted.length === 1 && wanted[0] === 'syn'
      : wanted.length === 0 || wanted[0] === 'none'
  return isSyn === not ? LATER : null
}

export function familyCondition(families: readonly Family[], not: boolean): Condition {
  const of = (family: Family): Ranges => (families.includes(family) === not ? NONE : everything(family))
  return { is: 'source', in: { 4: of(4), 6: of(6) } }
}

export function addressCondition(
  end: 'source' | 'destination',
  family: Family,
  ranges: Ranges,
  not: boolean,
): Condition {
  const held = not ? complement(family, ranges) : ranges
  return { is: end, in: family === 4 ? { 4: held, 6: NONE } : { 4: NONE, 6: held } }
}

/**
 * `192.0.2.0/24`, `192.0.2.1/255.255.255.0`, `192.0.2.1-192.0.2.9` or an address of the family, host bits cleared as
 * the kernel clears them; null when the text is none of these, also for masks that are no prefix.
 */
export function parseRange(text: string, family: Family): Range | null {
  const dash = text.indexOf('-')
  if (dash >= 0) return rangeBetween(text.slice(0, dash), text.slice(dash + 1), family)
  const slash = text.indexOf('/')
  const address = addressValue(slash < 0 ? text : text.slice(0, slash), family)
  if (address === null) return null
  const length = slash < 0 ? addressBits(family) : maskLength(text.slice(slash + 1), family)
  return length === null ? null : rangeFrom(address, length, family)
}

export function rangeFrom(address: bigint, length: number, family: Family): Range {
  const mask = family === 4 ? BigInt(mask4(length)) : mask6(length)
  const first = address & mask
  return { first, last: first + (1n << BigInt(addressBits(family) - length)) - 1n }
}

export function rangeBetween(low: string, high: string, family: Family): Range | null {
  const [first, last] = [addressValue(low, family), addressValue(high, family)]
  return first === null || last === null || first > last ? null : { first, last }
}

export function addressValue(text: string, family: Family): bigint | null {
  // Policies do not take IPv4-mapped addresses, and packets do not carry them, but rules name them.
  const mapped = family === 6 && /^::ffff:/i.test(text)
  const address = parseAddress(mapped ? `::${text.slice(7)}` : text)
  if (address?.family !== family) return null
  return BigInt(address.address) + (mapped ? 0xffffn << 32n : 0n)
}

/** Of `24` or `255.255.255.0`; null for what is no prefix length. */
export function maskLength(text: string, family: Family): number | null {
  if (/^\d{1,3}$/.test(text)) return Number(text) <= addressBits(family) ? Number(text) : null
  const mask = addressValue(text, family)
  if (mask === null) return null
  const bits = BigInt(addressBits(family))
  const ones = mask.toString(2).replaceAll('0', '').length
  const ofOnes = (1n << bits) - (1n << (bits - BigInt(ones)))
  return mask === ofOnes ? ones : null
}

/** The family of a text that holds an address, by its look. */
export function familyOf(text: string): Family {
  return text.includes(':') ? 6 : 4
}

export function joinSpaces(spaces: readonly Space[]): Space {
  return spaces.reduce((a, b) => ({ 4: union(a[4], b[4]), 6: union(a[6], b[6]) }), NOWHERE)
}

/** Several conditions on addresses, that must all be met, as one pair. */
export function pairOf(conditions: readonly Condition[]): { source: Space; destination: Space } {
  let source: Space = { 4: everything(4), 6: everything(6) }
  let destination: Space = source
  const both = (a: Space, b: Space): Space => ({ 4: intersect(a[4], b[4]), 6: intersect(a[6], b[6]) })
  for (const condition of conditions) {
    if (condition.is === 'source') source = both(source, condition.in)
    else if (condition.is === 'destination') destination = both(destination, condition.in)
  }
  return { source, destination }
}

/** A prefix that a caller wrote, such as after `--behind`. */
export function parseCallerPrefixes(text: string): Space | null {
  const ranges: Record<Family, Range[]> = { 4: [], 6: [] }
  for (const one of text.split(',')) {
    const prefix = parsePrefix(one.trim())
    if (typeof prefix === 'string') return null
    ranges[prefix.family].push(rangeFrom(BigInt(prefix.address), prefix.length, prefix.family))
  }
  return { 4: normalise(ranges[4]), 6: normalise(ranges[6]) }
}

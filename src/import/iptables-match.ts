/** The matches of an iptables rule to conditions, as iptables(8) and iptables-extensions(8) describe them. */
import type { Family } from '../policy/prefix.ts'
import {
  addressCondition,
  destinationKindCondition,
  flagsCondition,
  interfaceCondition,
  isServiceName,
  NEVER,
  type Ports,
  parsePorts,
  parseRange,
  portCondition,
  protocolCondition,
  type Surroundings,
  sourcePortCondition,
  stateCondition,
  unknown,
  userCondition,
} from './conditions.ts'
import { type Ipsets, meaningOf } from './ipset-save.ts'
import type { Option } from './iptables-words.ts'
import { tellNameless } from './nft-match.ts'
import { everything, NONE, normalise, type Range, type Space, subtract } from './ranges.ts'
import { type Remarks, shown } from './remark.ts'
import type { Condition } from './rule.ts'

export interface IptablesContext {
  readonly family: Family
  readonly sets: Ipsets
  readonly surroundings: Surroundings
  readonly remarks: Remarks
  readonly where: string
}

/** Conditions, the comment, and the options that are no match. */
export function matchesOf(
  options: readonly Option[],
  context: IptablesContext,
): { conditions: Condition[]; comment: string | null; rest: Option[] } {
  const conditions: Condition[] = []
  const rest: Option[] = []
  let comment: string | null = null
  let inTarget = false
  const add = (condition: Condition | null) => {
    if (condition !== null) conditions.push(condition)
  }
  for (const option of options) {
    const { name, not, values } = option
    const value = values[0] ?? ''
    if (name === '-j' || name === '--jump' || name === '-g' || name === '--goto') inTarget = true
    if (inTarget) {
      rest.push(option)
      continue
    }
    switch (name) {
      case '-s':
      case '--source':
      case '--src':
        add(addresses('source', value, not, context))
        break
      case '-d':
      case '--destination':
      case '--dst':
        add(addresses('destination', value, not, context))
        break
      case '--src-range':
        add(addresses('source', value, not, context))
        break
      case '--dst-range':
        add(addresses('destination', value, not, context))
        break
      case '-i':
      case '--in-interface':
        add(interfaceCondition('arrives', [interfaceName(value)], not, context.surroundings))
        break
      case '-o':
      case '--out-interface':
        add(interfaceCondition('leaves', [interfaceName(value)], not, context.surroundings))
        break
      case '-p':
      case '--protocol':
      case '--proto':
        add(protocolCondition([value], not))
        break
      case '--dport':
      case '--destination-port':
      case '--dports':
      case '--destination-ports':
        add(ports(value, not, portCondition))
        break
      case '--sport':
      case '--source-port':
      case '--sports':
      case '--source-ports':
        add(ports(value, not, sourcePortCondition))
        break
      case '--ports':
        add(unknown('source or destination port'))
        break
      case '--state':
      case '--ctstate':
        add(stateCondition(value.split(','), not))
        break
      case '--ctdir':
        if ((value.toLowerCase() === 'original') === not) add({ is: 'never', later: true })
        break
      case '--ctproto':
        add(protocolCondition([value], not))
        break
      case '--syn':
        add(flagsCondition(['syn', 'rst', 'ack', 'fin'], ['syn'], not))
        break
      case '--tcp-flags':
        add(flagsCondition(value.split(','), (values[1] ?? '').split(','), not))
        break
      case '--uid-owner': {
        const { condition, nameless } = userCondition([value], not, context.surroundings)
        if (nameless !== null) tellNameless(nameless, context.remarks, context.where)
        add(condition)
        break
      }
      case '--dst-type':
        add(destinationKindCondition(value.split(','), not))
        break
      case '--pkt-type':
        if ((value === 'unicast') === not) add(NEVER)
        break
      case '--match-set':
        conditions.push(...setConditions(value, (values[1] ?? '').split(','), not, context))
        break
      case '--comment':
        comment = shown(value, 200)
        break
      case '--icmp-type':
      case '--icmpv6-type':
        add(NEVER)
        break
      case '-m':
      case '--match':
        if (['udp', 'udplite', 'icmp', 'icmp6', 'ipv6-icmp', 'sctp', 'dccp', 'ah', 'esp'].includes(value))
          add(NEVER)
        else if (OPAQUE.has(value)) add(unknown(OPAQUE.get(value)!))
        break
      case '-c':
      case '--set-counters':
      case '-4':
      case '--ipv4':
      case '-6':
      case '--ipv6':
        break
      default:
        // What belongs to a match that is unknown as a whole needs no word of its own.
        if (!conditions.some(({ is }) => is === 'unknown')) add(unknown(`the option ${shown(name, 40)}`))
    }
  }
  return { conditions, comment, rest }
}

/** Matches that depend on something egress25 does not know, whatever their options say. */
const OPAQUE: ReadonlyMap<string, string> = new Map([
  ['limit', 'a rate limit'],
  ['hashlimit', 'a rate limit'],
  ['connlimit', 'the number of connections'],
  ['connbytes', 'how much a connection has carried'],
  ['quota', 'a quota'],
  ['recent', 'what was seen recently'],
  ['time', 'the time of day'],
  ['mark', 'the mark of the packet'],
  ['connmark', 'the mark of the connection'],
  ['mac', 'the hardware address'],
  ['physdev', 'the port of a bridge'],
  ['string', 'the content of the packet'],
  ['u32', 'raw bytes of the packet'],
  ['bpf', 'a program'],
  ['statistic', 'chance'],
  ['geoip', 'a country'],
  ['helper', 'a helper'],
  ['policy', 'an IPsec policy'],
  ['realm', 'a realm'],
  ['rpfilter', 'the way back'],
  ['socket', 'a socket'],
  ['cgroup', 'a cgroup'],
  ['length', 'the length of the packet'],
  ['ttl', 'the TTL'],
  ['hl', 'the hop limit'],
  ['dscp', 'the DSCP'],
  ['tos', 'the TOS'],
  ['ecn', 'ECN'],
  ['cluster', 'a cluster'],
  ['osf', 'the operating system'],
  ['nfacct', 'an account'],
  ['tcpmss', 'the MSS'],
])

function interfaceName(text: string): string {
  return text.endsWith('+') ? `${text.slice(0, -1)}*` : text
}

function addresses(
  end: 'source' | 'destination',
  value: string,
  not: boolean,
  { family, remarks, where }: IptablesContext,
): Condition {
  const ranges: Range[] = []
  for (const text of value.split(',')) {
    const range = parseRange(text, family)
    if (range === null) {
      remarks.add('error', 'syntax', where, `${shown(text, 60)} is no IPv${family} address, prefix or range`)
      return unknown(`the ${end} ${shown(text, 60)}`)
    }
    ranges.push(range)
  }
  return addressCondition(end, family, normalise(ranges), not)
}

function ports(
  value: string,
  not: boolean,
  condition: (ports: readonly Ports[], not: boolean) => Condition | null,
): Condition | null {
  const found: Ports[] = []
  for (const text of value.split(',')) {
    const range = parsePorts(text, ':')
    if (range !== null) found.push(range)
    else if (!isServiceName(text)) return unknown(`the ports ${shown(value, 60)}`)
  }
  return condition(found, not)
}

function setConditions(
  name: string,
  sides: readonly string[],
  not: boolean,
  { family, sets, remarks, where }: IptablesContext,
): Condition[] {
  const found = sets.resolve(name)
  if (found === null) {
    remarks.add(
      'error',
      'unknown-set',
      where,
      `the set ${shown(name, 60)} is not in the input: append what ipset save prints`,
    )
    return [unknown(`the set ${shown(name, 60)}`)]
  }
  const meanings = found
    .filter((set) => set.family === family)
    .map((set) => {
      if (set.expires !== null) {
        const message = `entries of the set ${shown(set.name, 60)} go by themselves, the first in ${set.expires} s; what is written here stays`
        remarks.add('error', 'expires', where, message)
      }
      return meaningOf(set, sides)
    })
  const held = meanings.filter(({ as }) => as !== 'nothing')
  if (held.length === 0) return not ? [] : [NEVER]
  const [first] = held
  if (held.length > 1 || first === undefined) {
    // A list of sets: only where all of them speak of the same side can they be joined.
    const spaces = held.flatMap((meaning) => (meaning.as === 'space' && !meaning.port ? [meaning] : []))
    const side = spaces[0]?.side
    if (side === undefined || spaces.length < held.length || spaces.some((space) => space.side !== side)) {
      return [unknown(`the list of sets ${shown(name, 60)}`)]
    }
    return [inSpace(side, joined(spaces.map(({ space }) => space)), not)]
  }
  switch (first.as) {
    case 'nothing':
      return [NEVER]
    case 'unknown':
      return [unknown(first.what)]
    case 'space': {
      if (!first.port) return [inSpace(first.side, first.space, not)]
      if (not) return [unknown(`not the set ${shown(name, 60)} with its ports`)]
      return [{ is: 'port', others: true }, inSpace(first.side, first.space, false)]
    }
    case 'pairs':
      if (not) return [unknown(`not the pairs of the set ${shown(name, 60)}`)]
      return [
        ...(first.port ? [{ is: 'port', others: true } as const] : []),
        { is: 'pairs', pairs: first.pairs },
      ]
    default:
      return first satisfies never
  }
}

function inSpace(side: 'source' | 'destination', space: Space, not: boolean): Condition {
  const of = (family: Family) => (not ? subtract(everything(family), space[family]) : space[family])
  return { is: side, in: { 4: of(4), 6: of(6) } }
}

function joined(spaces: readonly Space[]): Space {
  const of = (family: Family) => normalise(spaces.flatMap((space) => [...space[family]]))
  return spaces.length === 0 ? { 4: NONE, 6: NONE } : { 4: of(4), 6: of(6) }
}

/**
 * Rulesets as text for `nft -f`. The only module that knows nft's syntax (nft(8), versions 1.0.6 and later).
 *
 * Nothing that a person wrote reaches this text unchecked: names match `[a-z0-9-]`, interfaces are allow-listed by
 * the configuration, and everything else is a number.
 */
import { createHash } from 'node:crypto'
import { format4, format6, formatAddress, mask4, mask6 } from '../policy/prefix.ts'
import { type AppliedLog, droppedBetween, nextOf } from './applied-log.ts'
import { type Delta, deletes, type Entry } from './delta.ts'
import { flatten, splitKey } from './lookup-tables.ts'
import type {
  BaseChain,
  Chain,
  Keys,
  LearnedSet,
  Limit,
  LookupKey,
  LookupTable,
  Rule,
  Ruleset,
  Total,
} from './ruleset.ts'

export const TABLE = 'inet egress25'
export const TOTALS_SET = 'totals'
export const APPLIED_MAP = 'applied'

/** The number under which `applied` has the era of its table. */
export const ERA = 0

/** Elements in one command: large enough to be quick, small enough that an error message stays readable. */
const BATCH = 10_000

/** A SYN without ACK, RST or FIN: the first packet of a connection (RFC 9293 §3.5). */
const FIRST = 'tcp flags & (fin | syn | rst | ack) == syn'

/** Something was said: the sender asks for it to be handed over at once (RFC 9293 §3.9.1.2), which only data need. */
const WITH_DATA = 'tcp flags & (syn | rst | psh) == psh'

/** The end of a connection that had been answered: who got no answer has nothing to close. */
const CLOSING = 'tcp flags & (syn | rst | fin) == fin'

/** Behind an address: and the local user whose process made the packet. */
const USER = ' . meta skuid'

/** Bytes of a logged packet that are kept: both IP headers with options, and all of TCP's. */
const SNAPLEN = 128

/** A whole ruleset, and the digest by which it is recognised in the kernel. */
export interface Script {
  readonly text: string
  /** 128 bits in hexadecimal. */
  readonly digest: string
}

/**
 * Replaces the table as a whole, in one transaction. The first line makes sure that there is something to delete:
 * `destroy` would say the same, but nft 1.0.6 does not know it. The era (128 bits in hexadecimal) sets this writing of
 * the table apart from others of the same ruleset, where they must be told apart.
 */
export function renderReplacement(ruleset: Ruleset, era?: string): Script {
  const digest = digestOf(ruleset)
  const flat = ruleset.tables.map((table) => ({ table, entries: flatten(table) }))
  const sizes = new Map(flat.map(({ table, entries }) => [table.name, sizeFor(entries.keys.length)]))
  const parts = [`table ${TABLE}\ndelete table ${TABLE}\n`, frame(ruleset, sizes)]
  for (const { table, entries } of flat) {
    for (const command of elementCommands('add', table, entries)) parts.push(line(command))
  }
  parts.push(...beginLog(era ?? digest, digest).map(line))
  // Put together once: of a million elements, each copy has 15 MB.
  return { text: parts.join(''), digest }
}

/**
 * The digest by which a ruleset is recognised in the kernel: 128 bits in hexadecimal. Of everything but the elements
 * the text is digested, so that a release that writes rules in another way does not take the old ones for its own.
 */
export function digestOf(ruleset: Ruleset): string {
  const hash = createHash('sha256').update(frame(ruleset))
  for (const { name, parts } of ruleset.tables) {
    hash.update(`${name}\n`)
    // In whatever order the documents were read.
    for (const part of parts.map(({ keys, target }) => `${digestOfKeys(keys)} ${target}`).sort()) {
      hash.update(`${part}\n`)
    }
  }
  return hash.digest('hex').slice(0, 32)
}

/** A list is digested once, however many rulesets it is in. */
const DIGESTS = new WeakMap<Keys, string>()

function digestOfKeys(keys: Keys): string {
  let digest = DIGESTS.get(keys)
  if (digest === undefined) {
    const hash = createHash('sha256')
    if (keys instanceof Uint32Array) hash.update(keys)
    else for (const key of keys) hash.update(`${key} `)
    digest = hash.digest('base64')
    DIGESTS.set(keys, digest)
  }
  return digest
}

/** Elements from which on it pays to tell nft how many there will be. */
const MANY = 10_000

/**
 * How many elements to make room for: with a size the kernel takes a plain hash table and never grows it, so that a
 * million elements are loaded in half the time and found sooner. At least as many again may be added; when more are,
 * the kernel refuses, and the table is written anew with more room. null: it may see for itself.
 */
function sizeFor(elements: number): number | null {
  return elements < MANY ? null : 2 ** Math.ceil(Math.log2(elements * 2))
}

/** The table with all but its elements; the room in it makes no difference to what it is. */
function frame(ruleset: Ruleset, sizes: ReadonlyMap<string, number | null> = new Map()): string {
  const body = [
    ...ruleset.tables.map((table) => tableBlock(table, sizes.get(table.name) ?? null)),
    ...ruleset.learned.map(learnedBlock),
    totalsBlock(ruleset.totals),
    appliedBlock(),
    ...chainsFirstToLast(ruleset.chains).map(chainBlock),
  ].join('\n')
  return `table ${TABLE} {\n${body}}\n`
}

/** A delta as text, and what the table's log becomes by it. */
export interface DeltaScript {
  readonly text: string
  readonly log: AppliedLog
}

/**
 * Turns one ruleset in the kernel into another, whose digest is given. The transaction fails as a whole when the kernel
 * holds something else than what the log says.
 */
export function renderDelta(delta: Delta, before: AppliedLog, digest: string): DeltaScript {
  const reset = [...delta.changedChains, ...delta.removedChains]
  const filled = [...delta.addedChains, ...delta.changedChains]
  const log = nextOf(before, deletes(delta))
  const commands = [
    ...continueLog(before, log, digest),
    ...delta.addedTables.map((table) => declaration(table)),
    ...delta.addedLearned.map(
      (set) => `add set ${TABLE} ${set.name} { ${learnedProperties(set).join('; ')}; }`,
    ),
    ...delta.addedTotals.map(({ id }) => `add element ${TABLE} ${TOTALS_SET} { ${mark(id)} }`),
    ...delta.addedChains.map(
      ({ name, base }) => `add chain ${TABLE} ${name}${base === null ? '' : ` { ${hook(base)}; }`}`,
    ),
    ...reset.map(({ name }) => `flush chain ${TABLE} ${name}`),
    ...filled.flatMap(({ name, rules }) =>
      rules.map((rule) => `add rule ${TABLE} ${name} ${ruleText(rule)}`),
    ),
    ...delta.tables.flatMap(({ table, removed }) => elementCommands('delete', table, columns(removed))),
    ...delta.tables.flatMap(({ table, added }) => elementCommands('add', table, columns(added))),
    ...delta.addedTables.flatMap((table) => elementCommands('add', table, flatten(table))),
    ...delta.removedTables.map(({ name, isMap }) => `delete ${isMap ? 'map' : 'set'} ${TABLE} ${name}`),
    ...delta.removedLearned.map(({ name }) => `delete set ${TABLE} ${name}`),
    ...delta.removedTotals.map(({ id }) => `delete element ${TABLE} ${TOTALS_SET} { ${mark(id)} }`),
    ...delta.removedChains.map(({ name }) => `delete chain ${TABLE} ${name}`),
  ]
  return { text: commands.map(line).join(''), log }
}

function beginLog(era: string, digest: string): string[] {
  return [
    `add set ${TABLE} ${eraSet(era)} { ${typeOf('meta mark')}; }`,
    `add element ${TABLE} ${APPLIED_MAP} { ${mark(ERA)} : ${marks(era)}, ${mark(1)} : ${marks(digest)} }`,
  ]
}

function continueLog(before: AppliedLog, after: AppliedLog, digest: string): string[] {
  const dropped = droppedBetween(before, after)
  return [
    // Whatever is added to it: it must be there.
    `add element ${TABLE} ${eraSet(before.era)} { ${mark(ERA)} }`,
    `create element ${TABLE} ${APPLIED_MAP} { ${mark(after.newest)} : ${marks(digest)} }`,
    ...(dropped.length === 0
      ? []
      : [`delete element ${TABLE} ${APPLIED_MAP} { ${dropped.map(mark).join(', ')} }`]),
  ]
}

function eraSet(era: string): string {
  return `era-${era}`
}

/** Puts the chains and their rules back to what they should be, whatever is in them; sets and maps stay untouched. */
export function renderChains(chains: readonly Chain[]): string {
  const commands = [
    ...chains.map(
      ({ name, base }) => `add chain ${TABLE} ${name}${base === null ? '' : ` { ${hook(base)}; }`}`,
    ),
    ...chains.map(({ name }) => `flush chain ${TABLE} ${name}`),
    ...chains.flatMap(({ name, rules }) =>
      rules.map((rule) => `add rule ${TABLE} ${name} ${ruleText(rule)}`),
    ),
  ]
  return commands.map(line).join('')
}

function tableBlock(table: LookupTable, size: number | null): string {
  const keyword = table.isMap ? 'map' : 'set'
  const room = size === null ? [] : [`size ${size}`]
  return block(`${keyword} ${table.name}`, [tableType(table), ...room])
}

function declaration(table: LookupTable): string {
  return `add ${table.isMap ? 'map' : 'set'} ${TABLE} ${table.name} { ${tableType(table)}; }`
}

function tableType({ key, isMap }: LookupTable): string {
  const source = address(key.family, 'saddr')
  const both = key.source !== null && key.destination !== null
  return `${typeOf(both ? `${source} . ${address(key.family, 'daddr')}` : source)}${isMap ? ' : verdict' : ''}`
}

/**
 * By an example of what is looked up, not by the name of its type: nft 1.1.3 writes names into the kernel in a way on
 * which nft 1.0.6 dies (SIGSEGV), whatever it is asked, even to delete the table.
 */
function typeOf(example: string): string {
  return `typeof ${example}`
}

function learnedBlock(set: LearnedSet): string {
  return block(`set ${set.name}`, learnedProperties(set))
}

function learnedProperties({ family, holds, size, timeout }: LearnedSet): string[] {
  return [
    typeOf(`${address(family, 'saddr')}${holds === 'limit-by-user' ? USER : ''}`),
    `size ${size}`,
    'flags dynamic,timeout',
    ...(holds === 'counter' ? ['counter'] : []),
    `timeout ${timeout}s`,
  ]
}

function totalsBlock(totals: readonly Total[]): string {
  const elements =
    totals.length === 0 ? [] : [`elements = { ${totals.map(({ id }) => mark(id)).join(', ')} }`]
  return block(`set ${TOTALS_SET}`, [typeOf('meta mark'), 'counter', ...elements])
}

/** Which ruleset this is, for whoever reads the kernel later: see `applied-log.ts`. */
function appliedBlock(): string {
  return block(`map ${APPLIED_MAP}`, [`${typeOf('meta mark')} : ${Array(4).fill('meta mark').join(' . ')}`])
}

function chainBlock({ name, base, rules }: Chain): string {
  const head = base === null ? [] : [hook(base)]
  return block(`chain ${name}`, [...head, ...rules.map(ruleText)])
}

function hook({ type, hook, priority }: BaseChain): string {
  return `type ${type} hook ${hook} priority ${priority}; policy accept`
}

/** nft takes the chains of one block in any order but one: a rule's target must have been named above it. */
function chainsFirstToLast(chains: readonly Chain[]): readonly Chain[] {
  const byName = new Map(chains.map((chain) => [chain.name, chain]))
  const done = new Set<Chain>()
  const visit = (chain: Chain) => {
    if (done.has(chain)) return
    done.add(chain)
    for (const rule of chain.rules) {
      const target = 'chain' in rule ? byName.get(rule.chain) : undefined
      if (target !== undefined) visit(target)
    }
    sorted.push(chain)
  }
  const sorted: Chain[] = []
  for (const chain of chains) visit(chain)
  return sorted
}

function ruleText(rule: Rule): string {
  switch (rule.rule) {
    case 'port-25':
      return `th dport 25 goto ${rule.chain}`
    case 'tcp-only':
      return 'meta l4proto != tcp accept'
    case 'not-leaving-by':
      return `oifname != { ${rule.interfaces.map((name) => `"${name}"`).join(', ')} } accept`
    case 'not-routed-by':
      return `fib daddr oifname != { ${rule.interfaces.map((name) => `"${name}"`).join(', ')} } accept`
    case 'to-this-machine':
      return 'fib daddr type local accept'
    case 'send-to': {
      const family = rule.to.family === 4 ? 'ipv4' : 'ipv6'
      return `meta nfproto ${family} dnat ${rule.to.family === 4 ? 'ip' : 'ip6'} to ${formatAddress(rule.to)}`
    }
    case 'diverted':
      return `ct status dnat jump ${rule.chain}`
    case 'bound-for':
      return `${address(rule.to.family, 'daddr')} ${formatAddress(rule.to)} goto ${rule.chain}`
    case 'later-fragment':
      return rule.family === 4 ? 'ip frag-off & 0x1fff != 0 accept' : 'frag frag-off != 0 accept'
    case 'loopback':
      return 'oifname "lo" accept'
    case 'goto':
      return `goto ${rule.chain}`
    case 'users':
      return `meta skuid { ${rule.uids.join(', ')} } goto ${rule.chain}`
    case 'any-user':
      return `meta skuid 0-4294967294 goto ${rule.chain}`
    case 'in-set':
      return `${lookup(rule.key)} @${rule.table} goto ${rule.chain}`
    case 'by-map':
      return `${lookup(rule.key)} vmap @${rule.table}`
    case 'until':
      return `meta time >= ${rule.time} return`
    case 'not-first':
      // Not the opposite of FIRST: there are servers to which a SYN with a FIN opens a connection, too.
      return `tcp flags & (syn | ack) != syn goto ${rule.chain}`
    case 'below-rate': {
      const { set, family, rate, chain } = rule
      // The burst is the rate itself: "30/minute" lets 30 pass at once, then one every two seconds.
      const limit = `limit rate ${rate.count}/${rate.per} burst ${rate.count} packets`
      return `update @${set} { ${address(family, 'saddr')} ${limit} } goto ${chain}`
    }
    case 'first':
      return `${FIRST} jump ${rule.chain}`
    case 'count-first':
      return `${FIRST} ${countIn(rule.id)}`
    case 'count':
      return countIn(rule.id)
    case 'count-source':
      return `update @${rule.set} { ${masked(rule.family, 'saddr', rule.length)} counter }`
    case 'count-evidence': {
      const { what, set, family, length, notLeavingBy } = rule
      const names = notLeavingBy.map((name) => `"${name}"`).join(', ')
      const inwards = notLeavingBy.length === 0 ? '' : `oifname != { ${names} } `
      const flags = what === 'closed' ? CLOSING : WITH_DATA
      const who = masked(family, what === 'received' ? 'daddr' : 'saddr', length)
      return `${inwards}${flags} update @${set} { ${who} counter }`
    }
    case 'mute': {
      const { set, family, length, byUser, limit } = rule
      const who = `${masked(family, 'saddr', length)}${byUser ? USER : ''}`
      return `update @${set} { ${who} ${limitText(limit, 'over ')} } return`
    }
    case 'log': {
      const { family, overall, countedAs, prefix, group } = rule
      const below = `meta nfproto ipv${family} ${limitText(overall)}`
      return `${below} ${countIn(countedAs)} log prefix "${prefix}" group ${group} snaplen ${SNAPLEN} queue-threshold 1`
    }
    case 'verdict':
      return rule.verdict === 'reset' ? 'reject with tcp reset' : rule.verdict
    default:
      return rule satisfies never
  }
}

/**
 * Counts on one element of the set of totals. A set is asked for a packet's field, and there is none that says "this
 * rule": so any bits of the mark are cleared and the id put in their place, which is a constant, and always found.
 */
function countIn(id: number): string {
  return `meta mark & 0 ^ ${mark(id)} @${TOTALS_SET}`
}

function limitText({ perSecond, burst }: Limit, over: 'over ' | '' = ''): string {
  return `limit rate ${over}${perSecond}/second burst ${burst} packets`
}

function lookup({ family, source, destination }: LookupKey): string {
  return [
    ...(source === null ? [] : [masked(family, 'saddr', source)]),
    ...(destination === null ? [] : [masked(family, 'daddr', destination)]),
  ].join(' . ')
}

function masked(family: 4 | 6, field: string, length: number): string {
  if (length === (family === 4 ? 32 : 128)) return address(family, field)
  return `${address(family, field)} & ${family === 4 ? format4(mask4(length)) : format6(mask6(length))}`
}

function address(family: 4 | 6, field: string): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${field}`
}

/** Keys and, for a map, the target of each at the same index: as a table has them. */
interface Columns {
  readonly keys: ArrayLike<Entry['key']>
  readonly targets: ArrayLike<string | null> | null
}

function columns(entries: readonly Entry[]): Columns {
  return { keys: entries.map(({ key }) => key), targets: entries.map(({ target }) => target) }
}

function elementCommands(
  verb: 'add' | 'delete',
  { name, key, via }: LookupTable,
  { keys, targets }: Columns,
): string[] {
  const textOf = keyText(key)
  const commands: string[] = []
  for (let from = 0; from < keys.length; from += BATCH) {
    const batch: string[] = []
    for (let i = from; i < Math.min(from + BATCH, keys.length); i++) {
      const text = textOf(keys[i] ?? 0)
      const target = targets?.[i] ?? null
      batch.push(target === null ? text : `${text} : ${via} ${target}`)
    }
    commands.push(`${verb} element ${TABLE} ${name} { ${batch.join(', ')} }`)
  }
  return commands
}

/** Chosen once for a table: most keys by far are IPv4 addresses, and need no splitting. */
function keyText(key: LookupKey): (value: Entry['key']) => string {
  if (key.family === 4 && (key.source === null || key.destination === null)) {
    return (value) => format4(value as number)
  }
  return (value) =>
    splitKey(key, value)
      .map((part) => (typeof part === 'number' ? format4(part) : format6(part)))
      .join(' . ')
}

/** A number as nft takes marks. */
export function mark(id: number): string {
  return `0x${id.toString(16).padStart(8, '0')}`
}

function marks(digest: string): string {
  return (digest.match(/.{8}/g) ?? []).map((part) => `0x${part}`).join(' . ')
}

function block(head: string, lines: readonly string[]): string {
  return `\t${head} {\n${lines.map((text) => `\t\t${text}\n`).join('')}\t}\n`
}

function line(text: string): string {
  return `${text}\n`
}

/** `ipset save` lines, which may stand in the same input as the rules that name the sets: see ipset(8). */
import type { Family } from '../policy/prefix.ts'
import { addressValue, maskLength, parsePorts, parseRange, rangeFrom } from './conditions.ts'
import { NONE, normalise, type Range, type Ranges, type Space, subtract, union } from './ranges.ts'
import type { Remarks } from './remark.ts'
import { shown } from './remark.ts'

/** What one part of an entry is: `hash:ip,port` has two. */
type Part = 'ip' | 'net' | 'port' | 'iface' | 'mac' | 'mark'

export interface Ipset {
  readonly name: string
  readonly family: Family
  readonly parts: readonly Part[]
  readonly entries: Entry[]
  /** Of a list:set. */
  readonly members: string[] | null
  /** Entries of a hash:ip stand for prefixes of this length. */
  readonly netmask: number | null
  /** The shortest time, in seconds, after which an entry goes; null: none does. */
  expires: number | null
}

interface Entry {
  readonly parts: readonly string[]
  readonly nomatch: boolean
}

/** Takes `create` and `add` lines; answers false for any other. */
export class Ipsets {
  readonly #sets = new Map<string, Ipset>()
  readonly #remarks: Remarks

  constructor(remarks: Remarks) {
    this.#remarks = remarks
  }

  get(name: string): Ipset | null {
    return this.#sets.get(name) ?? null
  }

  line(words: readonly string[], where: string): boolean {
    const [command, name, ...rest] = words
    if (command === 'create' || command === '-N') {
      if (name === undefined || !this.#create(name, rest)) {
        this.#remarks.add('error', 'syntax', where, 'this set is of no type that ipset(8) names')
      }
      return true
    }
    if (command === 'add') {
      const set = name === undefined ? undefined : this.#sets.get(name)
      const [entry, ...options] = rest
      if (set === undefined || entry === undefined) {
        this.#remarks.add('error', 'unknown-set', where, `there is no set ${shown(name ?? '', 60)} to add to`)
        return true
      }
      if (set.members !== null) set.members.push(entry)
      else set.entries.push({ parts: entry.split(','), nomatch: options.includes('nomatch') })
      const at = options.indexOf('timeout')
      const seconds = at < 0 ? 0 : Number(options[at + 1])
      if (seconds > 0 && (set.expires === null || seconds < set.expires)) set.expires = seconds
      return true
    }
    return false
  }

  #create(name: string, words: readonly string[]): boolean {
    const [type = '', ...options] = words
    const [method = '', data = ''] = type.split(':')
    const after = (option: string) => {
      const at = options.indexOf(option)
      return at < 0 ? null : (options[at + 1] ?? null)
    }
    const family: Family = after('family') === 'inet6' ? 6 : 4
    const parts = data.split(',')
    const known = parts.every((part) => ['ip', 'net', 'port', 'iface', 'mac', 'mark', 'set'].includes(part))
    if (!['hash', 'bitmap', 'list'].includes(method) || !known) return false
    const netmask = after('netmask')
    this.#sets.set(name, {
      name,
      family,
      parts: method === 'list' ? ['net'] : (parts as Part[]),
      entries: [],
      members: method === 'list' ? [] : null,
      netmask: netmask === null ? null : maskLength(netmask, family),
      expires: null,
    })
    return true
  }

  /** The sets that a name stands for: of a list its members, each once. */
  resolve(name: string): Ipset[] | null {
    const found = this.#sets.get(name)
    if (found === undefined) return null
    if (found.members === null) return [found]
    return [...new Set(found.members)].flatMap((member) => {
      const set = this.#sets.get(member)
      return set === undefined || set.members !== null ? [] : [set]
    })
  }
}

/** What a set says about the sides of a packet: `src`, `dst` or `src,dst`. */
export type SetMeaning =
  | {
      readonly as: 'space'
      readonly side: 'source' | 'destination'
      readonly space: Space
      readonly port: boolean
    }
  | {
      readonly as: 'pairs'
      readonly pairs: readonly { source: Space; destination: Space }[]
      readonly port: boolean
    }
  | { readonly as: 'nothing' }
  | { readonly as: 'unknown'; readonly what: string }

const meanings = new WeakMap<Ipset, Map<string, SetMeaning>>()

/** Worked out once, however many rules name the set. */
export function meaningOf(set: Ipset, sides: readonly string[]): SetMeaning {
  const known = meanings.get(set) ?? new Map<string, SetMeaning>()
  meanings.set(set, known)
  const key = sides.join(',')
  const meaning = known.get(key) ?? workOut(set, sides)
  known.set(key, meaning)
  return meaning
}

function workOut(set: Ipset, sides: readonly string[]): SetMeaning {
  const { parts, family } = set
  if (sides.length < parts.length) return { as: 'unknown', what: `the set ${set.name}, which has more parts` }
  let port = false
  const addresses: { index: number; side: 'source' | 'destination' }[] = []
  let entries: readonly Entry[] = set.entries
  for (const [index, part] of parts.entries()) {
    const side = sides[index]
    if (side !== 'src' && side !== 'dst') return { as: 'unknown', what: `the set ${set.name}` }
    if (part === 'ip' || part === 'net') {
      addresses.push({ index, side: side === 'src' ? 'source' : 'destination' })
    } else if (part === 'port' && side === 'dst') {
      entries = entries.filter((entry) => isPort25(entry.parts[index] ?? ''))
      port = true
    } else return { as: 'unknown', what: `the ${part} in the set ${set.name}` }
  }
  if (entries.length === 0) return { as: 'nothing' }
  const [first, second] = addresses
  if (first === undefined) {
    const all = { 4: [{ first: 0n, last: (1n << 32n) - 1n }], 6: [{ first: 0n, last: (1n << 128n) - 1n }] }
    return { as: 'space', side: 'source', space: all, port }
  }
  const rangeAt = (entry: Entry, index: number): Range | null => {
    const text = entry.parts[index] ?? ''
    const address = set.netmask === null ? null : addressValue(text, family)
    return address === null ? parseRange(text, family) : rangeFrom(address, set.netmask!, family)
  }
  const unreadable: SetMeaning = { as: 'unknown', what: `an entry of the set ${set.name}` }
  if (second === undefined) {
    const ranges = entries.map((entry) => ({ range: rangeAt(entry, first.index), nomatch: entry.nomatch }))
    if (ranges.some(({ range }) => range === null)) return unreadable
    const held = longestFirst(ranges as { range: Range; nomatch: boolean }[])
    return { as: 'space', side: first.side, space: spaceFor(family, held), port }
  }
  if (first.side === second.side || addresses.length > 2 || entries.some(({ nomatch }) => nomatch)) {
    return {
      as: 'unknown',
      what: `the set ${set.name}, whose parts are both of one side, or have exceptions`,
    }
  }
  const pairs = entries.map((entry) => {
    const [one, other] = [rangeAt(entry, first.index), rangeAt(entry, second.index)]
    if (one === null || other === null) return null
    const spaces = { [first.side]: spaceFor(family, [one]), [second.side]: spaceFor(family, [other]) }
    return spaces as { source: Space; destination: Space }
  })
  if (pairs.some((pair) => pair === null)) return unreadable
  return { as: 'pairs', pairs: pairs as { source: Space; destination: Space }[], port }
}

/** `nomatch` takes a smaller network out of a larger, and a smaller still may be in again. */
function longestFirst(entries: readonly { range: Range; nomatch: boolean }[]): Ranges {
  if (entries.every(({ nomatch }) => !nomatch)) return normalise(entries.map(({ range }) => range))
  const bySize = new Map<bigint, { in: Range[]; out: Range[] }>()
  for (const { range, nomatch } of entries) {
    const size = range.last - range.first
    const group = bySize.get(size) ?? { in: [], out: [] }
    group[nomatch ? 'out' : 'in'].push(range)
    bySize.set(size, group)
  }
  const sizes = [...bySize].sort(([a], [b]) => (a > b ? -1 : a < b ? 1 : 0))
  return sizes.reduce<Ranges>(
    (held, [, group]) => subtract(union(held, normalise(group.in)), normalise(group.out)),
    NONE,
  )
}

function isPort25(text: string): boolean {
  const [, protocol = 'tcp', ports = text] = /^(?:([a-z0-9]+):)?(.+)$/.exec(text) ?? []
  const range = parsePorts(ports, '-')
  return (protocol === 'tcp' || protocol === '6') && range !== null && range.first <= 25 && 25 <= range.last
}

function spaceFor(family: Family, ranges: Ranges): Space {
  return family === 4 ? { 4: ranges, 6: NONE } : { 4: NONE, 6: ranges }
}

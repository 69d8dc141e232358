/** What stands on the right side of an nft match: single values, prefixes, ranges, and sets of them, also by name. */
import type { Family } from '../policy/prefix.ts'
import { addressValue, rangeBetween, rangeFrom } from './conditions.ts'
import { isRecord, items, type Json, only, record, scalar } from './json.ts'
import type { Range } from './ranges.ts'

/** A set or map of the input, by family, table and name. */
export interface NamedSet {
  readonly elements: readonly unknown[]
  /** Filled by rules while packets pass: what is in it now says little. */
  readonly learned: boolean
  /** The shortest time after which one of its elements goes, as written; null: none does. */
  readonly expires: string | null
}

export type FindSet = (name: string) => NamedSet | null

/** Why values could not be read; the text is for a message. */
export class Unreadable extends Error {
  readonly missingSet: string | null

  constructor(what: string, missingSet: string | null = null) {
    super(what)
    this.missingSet = missingSet
  }
}

export interface Values {
  /** Each without the wrapping that holds its counter, comment or time. */
  readonly values: readonly unknown[]
  readonly expires: string | null
}

/**
 * The single values of an expression.
 * @throws Unreadable for a set that is missing or learned
 */
export function valuesOf(right: unknown, findSet: FindSet): Values {
  if (typeof right === 'string' && right.startsWith('@')) {
    const set = findSet(right.slice(1))
    if (set === null) throw new Unreadable(`the set ${right}, which the input does not have`, right)
    if (set.learned) throw new Unreadable(`the set ${right}, which is filled while packets pass`)
    return valuesOfSet(set)
  }
  if (Array.isArray(right)) return { values: right.map(bare), expires: null }
  const [key, body] = only(right)
  if (key === 'set') return { values: (Array.isArray(body) ? body : [body]).map(bare), expires: null }
  if (key === '|')
    return { values: items(body).flatMap((one) => valuesOf(one, findSet).values), expires: null }
  return { values: [bare(right)], expires: null }
}

const known = new WeakMap<NamedSet, Values>()

/** The same object each time, so that what is made of a large set can be remembered by it. */
function valuesOfSet(set: NamedSet): Values {
  const values = known.get(set) ?? { values: set.elements.map(bare), expires: set.expires }
  known.set(set, values)
  return values
}

/** Pairs of a verdict map, or null when it is not there. */
export function mapEntries(
  data: unknown,
  findSet: FindSet,
): { entries: readonly (readonly [unknown, Json])[]; expires: string | null } {
  const { values, expires } =
    isRecord(data) && 'set' in data ? { values: items(data['set']), expires: null } : valuesOf(data, findSet)
  return {
    entries: values.flatMap((pair) =>
      Array.isArray(pair) && pair.length === 2 && isRecord(pair[1])
        ? [[bare(pair[0]), pair[1]] as const]
        : [],
    ),
    expires,
  }
}

function bare(value: unknown): unknown {
  const [key, body] = only(value)
  return key === 'elem' && isRecord(body) ? body['val'] : value
}

/** @throws Unreadable */
export function addressRange(value: unknown, family: Family): Range {
  if (typeof value === 'string') {
    const address = addressValue(value, family)
    if (address !== null) return { first: address, last: address }
  }
  const [key, body] = only(value)
  if (key === 'prefix') {
    const { addr, len } = record(body)
    const address = typeof addr === 'string' ? addressValue(addr, family) : null
    if (address !== null && typeof len === 'number' && Number.isInteger(len) && len >= 0) {
      if (len <= (family === 4 ? 32 : 128)) return rangeFrom(address, len, family)
    }
  }
  if (key === 'range') {
    const [low, high] = items(body)
    const range = rangeBetween(scalar(low) ?? '', scalar(high) ?? '', family)
    if (range !== null) return range
  }
  throw new Unreadable('an address of a form that is not known')
}

/** Ports, numbers, names: as text, `a-b` for a range. */
export function plainText(value: unknown): string {
  const text = scalar(value)
  if (text !== null) return text
  const [key, body] = only(value)
  if (key === 'range') {
    const [low, high] = items(body).map((one) => scalar(one))
    if (low != null && high != null) return `${low}-${high}`
  }
  throw new Unreadable('a value of a form that is not known')
}

/** Of the `set` and `map` objects of a listing. */
export function namedSet(set: Json): NamedSet {
  const flags = items(typeof set['flags'] === 'string' ? [set['flags']] : set['flags'])
  const elements = items(set['elem'])
  let expires: string | null = null
  for (const element of elements) {
    const holder = Array.isArray(element) ? element[0] : element
    const time = record(record(holder)['elem'])['expires'] ?? record(record(holder)['elem'])['timeout']
    if (time === undefined) continue
    if (expires === null || Number(time) < Number(expires)) expires = scalar(time) ?? '?'
  }
  return { elements, learned: flags.includes('dynamic'), expires }
}

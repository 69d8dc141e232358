/** Sorts prefixes into one table for each length in use, and tells the order in which to look them up. */
import { addressBits, type Family } from '../policy/prefix.ts'
import { compare, distinct4, distinct6, holds, type PrefixSet } from '../policy/prefix-set.ts'
import type { Key, Keys, LookupKey, LookupTable, TablePart } from './ruleset.ts'

/** What a set of prefixes, or of pairs, brings to one table. */
interface Share {
  readonly key: LookupKey
  readonly keys: Keys
}

interface Bucket {
  readonly key: LookupKey
  readonly parts: TablePart[]
}

/** Gathers prefixes (or pairs of them) under one name: `exempt` becomes `exempt4-24`, `exempt6-64-48`, … */
export class LookupTables {
  readonly #name: string
  readonly #via: LookupTable['via']
  readonly #buckets = new Map<string, Bucket>()
  #isMap = false

  constructor(name: string, via: LookupTable['via'] = 'goto') {
    this.#name = name
    this.#via = via
  }

  /**
   * Adds sources, destinations or all pairs of them. A pair of unlike families matches no packet and is passed over.
   * Targets make it a map; when a key comes twice with targets, the later one stands.
   */
  add(sources: PrefixSet | null, destinations: PrefixSet | null, target: string | null = null): void {
    this.#isMap = target !== null
    for (const { key, keys } of sharesOf(sources, destinations)) {
      const name = tableName(this.#name, key)
      const bucket = this.#buckets.get(name) ?? { key, parts: [] }
      this.#buckets.set(name, bucket)
      bucket.parts.push(partOf(keys, target))
    }
  }

  /**
   * In the order in which to look them up. Maps: the longest source first, then the longest destination, so that the
   * longest match decides. Sets: the shortest first, as whatever is found leads to the same place, and a short prefix
   * holds the most addresses and its table the fewest elements.
   */
  finish(): LookupTable[] {
    const tables = [...this.#buckets].map(([name, { key, parts }]) => ({
      name,
      key,
      via: this.#via,
      isMap: this.#isMap,
      parts,
    }))
    const sign = this.#isMap ? -1 : 1
    return tables.sort(
      (a, b) =>
        a.key.family - b.key.family ||
        sign * ((a.key.source ?? -1) - (b.key.source ?? -1)) ||
        sign * ((a.key.destination ?? -1) - (b.key.destination ?? -1)),
    )
  }
}

/** All keys of a table, ascending and distinct, and of a map the target of each at the same index. */
export interface Flat {
  readonly keys: Keys
  readonly targets: ArrayLike<string> | null
}

/** The parts of a table as one. Costs as much as the table has keys, unless it has one part. */
export function flatten({ key, isMap, parts }: LookupTable): Flat {
  const [only] = parts
  if (only !== undefined && parts.length === 1) {
    return {
      keys: only.keys,
      targets: isMap ? Array<string>(only.keys.length).fill(only.target ?? '') : null,
    }
  }
  const all: Key[] = []
  const owners: number[] = []
  for (const [owner, { keys }] of parts.entries()) {
    for (const value of keys) {
      all.push(value)
      if (isMap) owners.push(owner)
    }
  }
  if (!isMap)
    return {
      keys: narrow(key)
        ? distinct4(new Uint32Array(all as number[]).sort())
        : distinct6(all.sort(compare) as bigint[]),
      targets: null,
    }
  const order = Uint32Array.from(all.keys()).sort((a, b) => compare(all[a] ?? 0, all[b] ?? 0) || a - b)
  const latest = order.filter((at, index) => all[at] !== all[order[index + 1] ?? -1])
  const keys = Array.from(latest, (at) => all[at] ?? 0)
  return {
    keys: narrow(key) ? new Uint32Array(keys as number[]) : (keys as bigint[]),
    targets: Array.from(latest, (at) => parts[owners[at] ?? 0]?.target ?? ''),
  }
}

/** How many elements the kernel has of a table. */
export function countElements(table: LookupTable): number {
  const [only] = table.parts
  return only !== undefined && table.parts.length === 1 ? only.keys.length : flatten(table).keys.length
}

/** Whether a table has a key, and, if it is a map, where that leads; the later part stands. */
export function lookUp({ parts }: LookupTable, key: Key): TablePart | null {
  for (let at = parts.length - 1; at >= 0; at--) {
    const part = parts[at]
    if (part !== undefined && holds(part.keys, key)) return part
  }
  return null
}

/** Splits a table's key into addresses again, source first. */
export function splitKey(key: LookupKey, value: Key): Key[] {
  if (key.source === null || key.destination === null) return [value]
  const pair = BigInt(value)
  const bits = BigInt(addressBits(key.family))
  const [source, destination] = [pair >> bits, pair & ((1n << bits) - 1n)]
  return key.family === 4 ? [Number(source), Number(destination)] : [source, destination]
}

function tableName(stem: string, { family, source, destination }: LookupKey): string {
  return [`${stem}${family}`, source ?? 'any', ...(destination === null ? [] : [destination])].join('-')
}

/** Pairs are made once for the same two sets: a compile costs what is new in it. */
const PAIRS = new WeakMap<PrefixSet, WeakMap<PrefixSet, readonly Share[]>>()

function sharesOf(sources: PrefixSet | null, destinations: PrefixSet | null): readonly Share[] {
  if (sources === null || destinations === null) {
    return (
      (sources ?? destinations)?.parts.map(({ family, length, addresses }) => {
        const key = { family, source: sources && length, destination: destinations && length }
        return { key, keys: addresses }
      }) ?? []
    )
  }
  const known = PAIRS.get(sources) ?? new WeakMap<PrefixSet, readonly Share[]>()
  PAIRS.set(sources, known)
  const shares = known.get(destinations) ?? pairsOf(sources, destinations)
  known.set(destinations, shares)
  return shares
}

function pairsOf(sources: PrefixSet, destinations: PrefixSet): Share[] {
  return sources.parts.flatMap((from) =>
    destinations.parts.flatMap((to) => {
      if (from.family !== to.family) return []
      const keys: bigint[] = []
      for (const source of from.addresses) {
        for (const destination of to.addresses) keys.push(joinKey(from.family, source, destination))
      }
      return { key: { family: from.family, source: from.length, destination: to.length }, keys }
    }),
  )
}

/** The same keys with the same target are the same part, by which two rulesets see what they have in common. */
const PARTS = new WeakMap<Keys, Map<string | null, TablePart>>()

function partOf(keys: Keys, target: string | null): TablePart {
  const known = PARTS.get(keys) ?? new Map<string | null, TablePart>()
  PARTS.set(keys, known)
  const part = known.get(target) ?? Object.freeze({ keys, target })
  known.set(target, part)
  return part
}

/** Source and destination side by side in one number. */
export function joinKey(family: Family, source: Key, destination: Key): bigint {
  return (BigInt(source) << BigInt(addressBits(family))) | BigInt(destination)
}

/** Whether keys fit 32 bits. */
function narrow(key: LookupKey): boolean {
  return key.family === 4 && (key.source === null || key.destination === null)
}

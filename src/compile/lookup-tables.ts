/** Sorts prefixes into one table for each length in use, and tells the order in which to look them up. */
import type { Family, Prefix } from '../policy/prefix.ts'
import type { Keys, LookupKey, LookupTable } from './ruleset.ts'

type Key = number | bigint

/** Stands for a part of a key that is not looked at: a length that no prefix has. */
const NONE = 129

interface Bucket {
  readonly name: string
  readonly key: LookupKey
  readonly values: Key[]
  readonly targets: string[] | null
}

/** Gathers prefixes (or pairs of them) under one name: `exempt` becomes `exempt4-24`, `exempt6-64-48`, … */
export class LookupTables {
  readonly #name: string
  readonly #via: LookupTable['via']
  /** By family and lengths as one number: it is asked for each of a million prefixes. */
  readonly #buckets = new Map<number, Bucket>()

  constructor(name: string, via: LookupTable['via'] = 'goto') {
    this.#name = name
    this.#via = via
  }

  /**
   * Adds a source prefix, a destination prefix or a pair. A pair of unlike families matches no packet and is passed
   * over. Targets make it a map; when a key comes twice with targets, the later one stands.
   */
  add(source: Prefix | null, destination: Prefix | null, target: string | null = null): void {
    const family = source?.family ?? destination?.family
    if (family === undefined || (destination !== null && destination.family !== family)) return
    const bucket = this.#bucket(family, source?.length ?? null, destination?.length ?? null, target !== null)
    bucket.values.push(join(source, destination))
    if (target !== null) bucket.targets?.push(target)
  }

  /** Sorted: longest source first, then longest destination; a look-up in this order finds the longest match. */
  finish(): LookupTable[] {
    const tables = [...this.#buckets.values()].map(({ name, key, values, targets }) => ({
      name,
      key,
      via: this.#via,
      ...(targets === null ? { keys: sortKeys(values, key), targets } : sortMap(values, targets, key)),
    }))
    return tables.sort(
      (a, b) =>
        a.key.family - b.key.family ||
        (b.key.source ?? -1) - (a.key.source ?? -1) ||
        (b.key.destination ?? -1) - (a.key.destination ?? -1),
    )
  }

  #bucket(family: Family, source: number | null, destination: number | null, isMap: boolean): Bucket {
    const id = ((source ?? NONE) * (NONE + 1) + (destination ?? NONE)) * 8 + family
    let bucket = this.#buckets.get(id)
    if (bucket === undefined) {
      const lengths = [source ?? 'any', ...(destination === null ? [] : [destination])]
      const name = `${this.#name}${family}-${lengths.join('-')}`
      bucket = { name, key: { family, source, destination }, values: [], targets: isMap ? [] : null }
      this.#buckets.set(id, bucket)
    }
    return bucket
  }
}

/** Splits a table's key into addresses again, source first. */
export function splitKey(key: LookupKey, value: Key): Key[] {
  if (key.source === null || key.destination === null) return [value]
  const pair = BigInt(value)
  const bits = key.family === 4 ? 32n : 128n
  const [source, destination] = [pair >> bits, pair & ((1n << bits) - 1n)]
  return key.family === 4 ? [Number(source), Number(destination)] : [source, destination]
}

function join(source: Prefix | null, destination: Prefix | null): Key {
  if (source === null || destination === null) return (source ?? destination)?.address ?? 0
  return (BigInt(source.address) << (source.family === 4 ? 32n : 128n)) | BigInt(destination.address)
}

function sortKeys(values: readonly Key[], key: LookupKey): Keys {
  if (isNarrow(key)) return distinct(new Uint32Array(values as readonly number[]).sort())
  // No Set: V8 hashes the lowest 64 bits of a bigint alone, and IPv6 networks have only zeros there.
  const sorted = [...(values as readonly bigint[])].sort(compare)
  return sorted.filter((value, index) => index === 0 || sorted[index - 1] !== value)
}

function distinct(sorted: Uint32Array): Uint32Array {
  let length = 0
  for (const value of sorted) {
    if (length === 0 || sorted[length - 1] !== value) sorted[length++] = value
  }
  return length === sorted.length ? sorted : sorted.slice(0, length)
}

function sortMap(
  values: readonly Key[],
  targets: readonly string[],
  key: LookupKey,
): Pick<LookupTable, 'keys' | 'targets'> {
  const order = Uint32Array.from(values.keys()).sort(
    (a, b) => compare(values[a] ?? 0, values[b] ?? 0) || a - b,
  )
  const latest = order.filter((at, index) => values[at] !== values[order[index + 1] ?? -1])
  const keys = Array.from(latest, (at) => values[at] ?? 0)
  return {
    keys: isNarrow(key) ? Uint32Array.from(keys as number[]) : (keys as bigint[]),
    targets: Array.from(latest, (at) => targets[at] ?? ''),
  }
}

function isNarrow(key: LookupKey): boolean {
  return key.family === 4 && (key.source === null || key.destination === null)
}

function compare(a: Key, b: Key): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Whose packets meet another verdict after a change, and where they go: the meaning of a plan. */
import { AddressRanges } from '../policy/address-ranges.ts'
import type { Model } from '../policy/model.ts'
import { addressBits, FAMILIES, type Family, formatPrefix, type Prefix } from '../policy/prefix.ts'
import { type Address, PrefixSet } from '../policy/prefix-set.ts'
import { prefixesOf } from './prefixes-of-range.ts'
import { type Verdict, type VerdictMap, verdictAt, verdictMap } from './verdict-map.ts'

export interface VerdictChange {
  readonly from: Verdict
  readonly to: Verdict
  /** null: to anywhere that no document names. */
  readonly destination: string | null
  /** The fewest prefixes that are exactly those sources; the first of them. */
  readonly sources: readonly string[]
  /** How many prefixes there are in all. */
  readonly prefixes: number
  /** How many addresses they have. */
  readonly addresses: bigint
}

export interface VerdictChanges {
  readonly changes: readonly VerdictChange[]
  /** Destinations that changed documents name and that were not looked at: too many. */
  readonly omitted: number
}

/** Prefixes listed of each change, and destinations looked at one by one: for people, not for machines. */
const MAX_LISTED = 1_000
const MAX_DESTINATIONS = 100

/**
 * Compares two models address by address, at a time (milliseconds since the epoch): towards anywhere, and towards
 * each destination that a changed relay or exemption names.
 */
export function verdictChanges(before: Model, after: Model, now: number): VerdictChanges {
  const changes: VerdictChange[] = []
  const named = namedDestinations(before, after)
  for (const family of FAMILIES) {
    const anywhere = pairOf(before, after, family, null, now)
    changes.push(...collect(family, null, [anywhere]))
    for (const { destination, sources } of named.slice(0, MAX_DESTINATIONS)) {
      if (destination.family !== family) continue
      const [old, next] = [within(before, sources), within(after, sources)]
      const there = pairOf(old, next, family, destination, now)
      const elsewhere = pairOf(old, next, family, null, now)
      changes.push(...collect(family, destination, [there, elsewhere]))
    }
  }
  return { changes, omitted: Math.max(0, named.length - MAX_DESTINATIONS) }
}

type Pair = readonly [VerdictMap, VerdictMap]

function pairOf(before: Model, after: Model, family: Family, destination: Prefix | null, now: number): Pair {
  return [verdictMap(before, family, destination, now), verdictMap(after, family, destination, now)]
}

/** Walks all maps together. What a destination has in common with anywhere is said once, for anywhere. */
function collect(family: Family, destination: Prefix | null, pairs: readonly Pair[]): VerdictChange[] {
  const found = new Map<string, { from: Verdict; to: Verdict; ranges: [Address, Address][] }>()
  const maps = pairs.flat()
  const [there, elsewhere] = pairs
  if (there === undefined) return []
  const end = family === 4 ? 2 ** addressBits(4) - 1 : (1n << 128n) - 1n
  for (const [start, last] of pieces(maps, end)) {
    const [from, to] = there.map((map) => verdictAt(map, start)) as [Verdict, Verdict]
    if (from === to) continue
    if (elsewhere !== undefined) {
      const [wasFrom, wasTo] = elsewhere.map((map) => verdictAt(map, start))
      if (from === wasFrom && to === wasTo) continue
    }
    const id = `${from} ${to}`
    const change = found.get(id) ?? { from, to, ranges: [] }
    found.set(id, change)
    const previous = change.ranges.at(-1)
    if (previous !== undefined && isNext(previous[1], start)) previous[1] = last
    else change.ranges.push([start, last])
  }
  return [...found.values()].map(({ from, to, ranges }) => {
    const sources: string[] = []
    let prefixes = 0
    let addresses = 0n
    for (const [first, last] of ranges) {
      addresses += BigInt(last) - BigInt(first) + 1n
      for (const prefix of prefixesOf(family, first, last)) {
        if (prefixes++ < MAX_LISTED) sources.push(formatPrefix(prefix))
      }
    }
    const to25 = destination === null ? null : formatPrefix(destination)
    return { from, to, destination: to25, sources, prefixes, addresses }
  })
}

/** The address space, cut wherever one of the maps changes. */
function* pieces(maps: readonly VerdictMap[], end: Address): Generator<[Address, Address]> {
  const at = maps.map(() => 0)
  for (let start: Address | null = maps[0]?.starts[0] ?? null; start !== null; ) {
    let next: Address | null = null
    for (const [index, { starts }] of maps.entries()) {
      while ((starts[at[index] ?? 0] ?? end) <= start && (at[index] ?? 0) < starts.length)
        at[index] = (at[index] ?? 0) + 1
      const candidate = starts[at[index] ?? 0]
      if (candidate !== undefined && (next === null || candidate < next)) next = candidate
    }
    yield [start, next === null ? end : typeof next === 'number' ? next - 1 : next - 1n]
    start = next
  }
}

function isNext(last: Address, start: Address): boolean {
  return typeof last === 'number' ? last + 1 === start : last + 1n === start
}

interface NamedDestination {
  readonly destination: Prefix
  /** Whose packets to it may change. */
  readonly sources: PrefixSet
}

const EVERYBODY = PrefixSet.of([
  { family: 4, address: 0, length: 0 },
  { family: 6, address: 0n, length: 0 },
])

/** The destinations of relays and exemptions that are not the same in both models, and who may go there. */
function namedDestinations(before: Model, after: Model): NamedDestination[] {
  const [old, now] = [statements(before), statements(after)]
  const found = new Map<string, { destination: Prefix; sources: PrefixSet[] }>()
  const note = (these: Statements, those: Statements) => {
    for (const [id, one] of these) {
      if (isSame(one, those.get(id))) continue
      for (const destination of one.destinations) {
        if (destination.length === 0) continue
        const key = formatPrefix(destination)
        const known = found.get(key) ?? { destination, sources: [] }
        known.sources.push(one.sources)
        found.set(key, known)
      }
    }
  }
  note(old, now)
  note(now, old)
  return [...found.values()].map(({ destination, sources }) => ({
    destination,
    sources: PrefixSet.union(sources),
  }))
}

/** Who may go where, and until when. */
interface Statement {
  readonly sources: PrefixSet
  readonly destinations: PrefixSet
  readonly expires: number | null
}

type Statements = ReadonlyMap<string, Statement>

function statements({ relays, exemptions }: Model): Statements {
  const found = new Map<string, Statement>()
  for (const { name, addresses, clients } of relays) {
    found.set(`relay ${name}`, { destinations: addresses, sources: clients ?? EVERYBODY, expires: null })
  }
  for (const { name, sources, destinations, expires } of exemptions) {
    if (destinations !== null) found.set(`exemption ${name}`, { destinations, sources, expires })
  }
  return found
}

function isSame(one: Statement, other: Statement | undefined): boolean {
  return (
    one.expires === other?.expires &&
    one.sources.equals(other.sources) &&
    one.destinations.equals(other.destinations)
  )
}

/** The model as far as it concerns these sources: so that one exemption costs no walk over a million prefixes. */
function within(model: Model, sources: PrefixSet): Model {
  const ranges = AddressRanges.of(sources)
  const near = (prefixes: PrefixSet) =>
    PrefixSet.of([...prefixes].filter((prefix) => ranges.overlaps(prefix)))
  return {
    ...model,
    policies: model.policies.map((policy) => ({ ...policy, networks: near(policy.networks) })),
    exemptions: model.exemptions.flatMap((exemption) => {
      const close = near(exemption.sources)
      return close.size === 0 ? [] : [{ ...exemption, sources: close }]
    }),
  }
}

/** What leads from one ruleset to another: the smallest change, or null when only a replacement will do. */
import { isDeepStrictEqual } from 'node:util'
import { compare } from '../policy/prefix-set.ts'
import { countElements, flatten, lookUp } from './lookup-tables.ts'
import type { Chain, Key, Keys, LearnedSet, LookupTable, Ruleset, TablePart, Total } from './ruleset.ts'

export interface Delta {
  readonly tables: readonly TableDelta[]
  readonly addedTables: readonly LookupTable[]
  readonly removedTables: readonly LookupTable[]
  readonly addedLearned: readonly LearnedSet[]
  readonly removedLearned: readonly LearnedSet[]
  readonly addedTotals: readonly Total[]
  readonly removedTotals: readonly Total[]
  readonly addedChains: readonly Chain[]
  /** Flushed and filled anew. */
  readonly changedChains: readonly Chain[]
  readonly removedChains: readonly Chain[]
}

export interface TableDelta {
  readonly table: LookupTable
  readonly removed: readonly Entry[]
  readonly added: readonly Entry[]
}

export interface Entry {
  readonly key: Key
  readonly target: string | null
}

/** null: a base chain or a learned set changed its nature, which nft cannot do in place. */
export function difference(from: Ruleset, to: Ruleset): Delta | null {
  const tables = pair(from.tables, to.tables, ({ name }) => name)
  const learned = pair(from.learned, to.learned, ({ name }) => name)
  const totals = pair(from.totals, to.totals, ({ id }) => String(id))
  const chains = pair(from.chains, to.chains, ({ name }) => name)
  if (learned.kept.some(([before, after]) => !isDeepStrictEqual(before, after))) return null
  if (chains.kept.some(([before, after]) => !isDeepStrictEqual(before.base, after.base))) return null
  if (tables.kept.some(([before, after]) => before.isMap !== after.isMap)) return null
  return {
    tables: tables.kept.map(([before, after]) => entries(before, after)).filter(isChange),
    addedTables: tables.added,
    removedTables: tables.removed,
    addedLearned: learned.added,
    removedLearned: learned.removed,
    addedTotals: totals.added,
    removedTotals: totals.removed,
    addedChains: chains.added,
    changedChains: chains.kept
      .filter(([a, b]) => !isDeepStrictEqual(a.rules, b.rules))
      .map(([, chain]) => chain),
    removedChains: chains.removed,
  }
}

/** Whether it deletes anything that the kernel holds; to fill a chain anew is to delete its rules. */
export function deletes(delta: Delta): boolean {
  return (
    delta.tables.some(({ removed }) => removed.length > 0) ||
    [
      delta.removedTables,
      delta.removedLearned,
      delta.removedTotals,
      delta.changedChains,
      delta.removedChains,
    ].some(({ length }) => length > 0)
  )
}

/** How many elements and chains a delta touches. */
export function sizeOf(delta: Delta): { elements: number; chains: number } {
  const inTables = delta.tables.reduce((sum, { added, removed }) => sum + added.length + removed.length, 0)
  const whole = [...delta.addedTables, ...delta.removedTables].reduce(
    (sum, table) => sum + countElements(table),
    0,
  )
  return {
    elements: inTables + whole,
    chains: delta.addedChains.length + delta.changedChains.length + delta.removedChains.length,
  }
}

/** Look-ups of single keys that are less work than sorting all of both tables. */
const MAX_LOOK_UPS = 5_000_000

/** What both tables share is passed over; the keys of the other parts are looked up in both. */
function entries(from: LookupTable, to: LookupTable): TableDelta {
  const [old, now] = [new Set(from.parts), new Set(to.parts)]
  const [gone, come] = [
    from.parts.filter((part) => !now.has(part)),
    to.parts.filter((part) => !old.has(part)),
  ]
  const changed = from.isMap ? [...gone, ...come] : withoutTwins(gone, come)
  // In a map the later of two parts stands: what both share must also come in the same order.
  const [kept, still] = [from.parts.filter((part) => now.has(part)), to.parts.filter((part) => old.has(part))]
  const isMoved = from.isMap && kept.some((part, at) => part !== still[at])
  const keys = changed.reduce((sum, part) => sum + part.keys.length, 0)
  if (isMoved || keys * (from.parts.length + to.parts.length) > MAX_LOOK_UPS) return walk(from, to)
  const removed: Entry[] = []
  const added: Entry[] = []
  const seen = new Set<string>()
  for (const part of changed) {
    for (const key of part.keys) {
      const text = String(key)
      if (changed.length > 1) {
        if (seen.has(text)) continue
        seen.add(text)
      }
      const [before, after] = [lookUp(from, key), lookUp(to, key)]
      if (before?.target === after?.target) continue
      if (before !== null) removed.push({ key, target: before.target })
      if (after !== null) added.push({ key, target: after.target })
    }
  }
  return { table: to, removed: removed.sort(byKey), added: added.sort(byKey) }
}

/** A list that was read again is another object, and often has in it what it had before. */
function withoutTwins(gone: readonly TablePart[], come: readonly TablePart[]): TablePart[] {
  const left = [...gone]
  const isNew = (part: TablePart) => {
    const twin = left.findIndex(({ keys }) => areSame(keys, part.keys))
    if (twin >= 0) left.splice(twin, 1)
    return twin < 0
  }
  const added = come.filter(isNew)
  return [...left, ...added]
}

function areSame(a: Keys, b: Keys): boolean {
  if (a.length !== b.length) return false
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false
  return true
}

/** Both tables in the order of their keys, side by side. */
function walk(before: LookupTable, after: LookupTable): TableDelta {
  const [from, to] = [flatten(before), flatten(after)]
  const removed: Entry[] = []
  const added: Entry[] = []
  for (let i = 0, j = 0; i < from.keys.length || j < to.keys.length; ) {
    const old = from.keys[i]
    const now = to.keys[j]
    const order = old === undefined ? 1 : now === undefined || old < now ? -1 : old > now ? 1 : 0
    if (order !== 0 || from.targets?.[i] !== to.targets?.[j]) {
      if (order <= 0 && old !== undefined) removed.push({ key: old, target: from.targets?.[i] ?? null })
      if (order >= 0 && now !== undefined) added.push({ key: now, target: to.targets?.[j] ?? null })
    }
    if (order <= 0) i++
    if (order >= 0) j++
  }
  return { table: after, removed, added }
}

function byKey(a: Entry, b: Entry): number {
  return compare(a.key, b.key)
}

function isChange({ added, removed }: TableDelta): boolean {
  return added.length > 0 || removed.length > 0
}

function pair<T>(from: readonly T[], to: readonly T[], id: (item: T) => string) {
  const before = new Map(from.map((item) => [id(item), item]))
  const after = new Set(to.map(id))
  const kept: [T, T][] = []
  const added: T[] = []
  for (const item of to) {
    const known = before.get(id(item))
    if (known === undefined) added.push(item)
    else kept.push([known, item])
  }
  return { kept, added, removed: from.filter((item) => !after.has(id(item))) }
}

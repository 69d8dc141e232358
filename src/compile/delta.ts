/** What leads from one ruleset to another: the smallest change, or null when only a replacement will do. */
import { isDeepStrictEqual } from 'node:util'
import type { Chain, LearnedSet, LookupTable, Ruleset, Total } from './ruleset.ts'

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
  readonly key: number | bigint
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
  if (tables.kept.some(([before, after]) => (before.targets === null) !== (after.targets === null)))
    return null
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

/** How many elements and chains a delta touches. */
export function sizeOf(delta: Delta): { elements: number; chains: number } {
  const inTables = delta.tables.reduce((sum, { added, removed }) => sum + added.length + removed.length, 0)
  const whole = [...delta.addedTables, ...delta.removedTables].reduce((sum, { keys }) => sum + keys.length, 0)
  return {
    elements: inTables + whole,
    chains: delta.addedChains.length + delta.changedChains.length + delta.removedChains.length,
  }
}

/** Both tables are sorted, so one walk along them finds every difference. */
function entries(from: LookupTable, to: LookupTable): TableDelta {
  const removed: Entry[] = []
  const added: Entry[] = []
  for (let i = 0, j = 0; i < from.keys.length || j < to.keys.length; ) {
    const before = from.keys[i]
    const after = to.keys[j]
    const order =
      before === undefined ? 1 : after === undefined || before < after ? -1 : before > after ? 1 : 0
    if (order !== 0 || from.targets?.[i] !== to.targets?.[j]) {
      if (order <= 0 && before !== undefined) removed.push({ key: before, target: from.targets?.[i] ?? null })
      if (order >= 0 && after !== undefined) added.push({ key: after, target: to.targets?.[j] ?? null })
    }
    if (order <= 0) i++
    if (order >= 0) j++
  }
  return { table: to, removed, added }
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

/** Which documents come, go and change between two states of a policy directory. */
import { isDeepStrictEqual } from 'node:util'
import type { Origin } from '../policy/diagnostic.ts'
import type { Loaded } from '../policy/load.ts'
import { PrefixSet } from '../policy/prefix-set.ts'
import type { Document, Kind } from '../policy/schema.ts'

export interface DocumentChange {
  readonly change: 'added' | 'changed' | 'removed'
  readonly kind: Kind
  readonly name: string
  /** Where it is written: after the change, or before it when it goes. */
  readonly file: string
  readonly line: number
  /** Of a changed document, the keys that differ. */
  readonly keys: readonly string[]
  /** Of a changed list, how many prefixes come and go. */
  readonly prefixes: { readonly added: number; readonly removed: number } | null
}

const NONE = PrefixSet.of([])

/** In the order of kinds and names. A document that only moves to another file has not changed. */
export function documentChanges(before: Loaded, after: Loaded): DocumentChange[] {
  const [old, now] = [byId(before), byId(after)]
  const changes: DocumentChange[] = []
  for (const [id, { document, origin }] of now) {
    const earlier = old.get(id)
    const { kind, name } = document
    const about = { kind, name, file: origin.file, line: origin.line }
    if (earlier === undefined) changes.push({ change: 'added', ...about, keys: [], prefixes: null })
    else {
      const keys = changedKeys(earlier.document, document)
      const prefixes = kind === 'list' ? countPrefixes(before.lists.get(name), after.lists.get(name)) : null
      if (keys.length > 0 || prefixes !== null) changes.push({ change: 'changed', ...about, keys, prefixes })
    }
  }
  for (const [id, { document, origin }] of old) {
    if (now.has(id)) continue
    const { kind, name } = document
    changes.push({
      change: 'removed',
      kind,
      name,
      file: origin.file,
      line: origin.line,
      keys: [],
      prefixes: null,
    })
  }
  return changes.sort((a, b) => compare(a.kind, b.kind) || compare(a.name, b.name))
}

function byId({ documents }: Loaded): Map<string, { document: Document; origin: Origin }> {
  return new Map(
    documents.map(({ document, source }) => [
      `${document.kind} ${document.name}`,
      { document, origin: source.origin },
    ]),
  )
}

function changedKeys(before: object, after: object): string[] {
  const [old, now] = [before as Record<string, unknown>, after as Record<string, unknown>]
  const keys = new Set([...Object.keys(old), ...Object.keys(now)])
  return [...keys].filter((key) => !isDeepStrictEqual(old[key], now[key])).sort(compare)
}

/** null when they hold the same. */
function countPrefixes(before = NONE, after = NONE) {
  if (before === after) return null
  const added = countMissing(after, before)
  const removed = countMissing(before, after)
  return added + removed === 0 ? null : { added, removed }
}

function countMissing(these: PrefixSet, those: PrefixSet): number {
  let missing = 0
  for (const prefix of these) if (!those.has(prefix)) missing++
  return missing
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

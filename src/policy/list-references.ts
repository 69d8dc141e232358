/** References to lists, found in whatever stands in a document: one with other mistakes in it is no exception. */

import { type Diagnostic, diagnostic } from './diagnostic.ts'
import { NAME } from './name.ts'
import { pointerTo } from './shape.ts'
import { suggest } from './suggest.ts'
import type { SourceDocument } from './yaml-source.ts'

/** The keys that take `@list` beside prefixes. */
const KEYS = ['networks', 'addresses', 'clients', 'sources', 'destinations'] as const

/** A hint compares a name with all others; nobody reads so many of them. */
const MAX_HINTS = 100

/** One for each reference to a list that no document defines, be that document sound or not. */
export function danglingLists(documents: readonly SourceDocument[]): Diagnostic[] {
  const names = documents.flatMap(({ value }) => {
    const { kind, name } = mapping(value)
    return kind === 'list' && typeof name === 'string' ? [name] : []
  })
  const known = new Set(names)
  const found: Diagnostic[] = []
  for (const source of documents) {
    for (const { pointer, list } of referencesIn(source.value)) {
      if (known.has(list)) continue
      const hint = found.length < MAX_HINTS ? suggest(list, names) : ''
      found.push(diagnostic(source.locate({ pointer }), 'dangling-list', `there is no list ${list}${hint}`))
    }
  }
  return found
}

function referencesIn(value: unknown): { pointer: string; list: string }[] {
  const document = mapping(value)
  return KEYS.flatMap((key) => {
    const entries = Object.hasOwn(document, key) ? document[key] : []
    if (!Array.isArray(entries)) return []
    return entries.flatMap((entry: unknown, index) =>
      typeof entry === 'string' && entry.startsWith('@') && NAME.test(entry.slice(1))
        ? [{ pointer: pointerTo(`/${key}`, index), list: entry.slice(1) }]
        : [],
    )
  })
}

function mapping(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

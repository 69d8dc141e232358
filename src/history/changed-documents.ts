/** Which documents two revisions of files have otherwise. Pure. */
import { isDeepStrictEqual } from 'node:util'
import { isKind } from '../policy/document.ts'
import type { Kind } from '../policy/schema.ts'
import { parseYaml } from '../policy/yaml-source.ts'

export interface ChangedDocument {
  readonly change: 'added' | 'changed' | 'removed'
  readonly kind: Kind
  readonly name: string
  readonly file: string
}

export interface TextDifference {
  readonly path: string
  readonly before: string | null
  readonly after: string | null
}

/** In the order of kinds and names; one that only moves to another file has not changed. */
export function changedDocuments(files: readonly TextDifference[]): ChangedDocument[] {
  const before = new Map<string, Found>()
  const after = new Map<string, Found>()
  for (const { path, ...file } of files) {
    if (!/\.ya?ml$/.test(path)) continue
    for (const one of documentsIn(path, file.before)) before.set(one.id, one)
    for (const one of documentsIn(path, file.after)) after.set(one.id, one)
  }
  const changes: ChangedDocument[] = []
  for (const [id, { kind, name, file, value }] of after) {
    const earlier = before.get(id)
    if (earlier === undefined) changes.push({ change: 'added', kind, name, file })
    else if (!isDeepStrictEqual(earlier.value, value)) changes.push({ change: 'changed', kind, name, file })
  }
  for (const [id, { kind, name, file }] of before)
    if (!after.has(id)) changes.push({ change: 'removed', kind, name, file })
  const key = ({ kind, name }: ChangedDocument) => `${kind} ${name}`
  return changes.sort((a, b) => (key(a) < key(b) ? -1 : 1))
}

interface Found extends Omit<ChangedDocument, 'change'> {
  readonly id: string
  readonly value: unknown
}

function documentsIn(file: string, text: string | null): Found[] {
  if (text === null) return []
  return parseYaml(file, text).documents.flatMap(({ value }) => {
    if (typeof value !== 'object' || value === null) return []
    const { kind, name } = value as { kind?: unknown; name?: unknown }
    if (!isKind(kind) || typeof name !== 'string') return []
    return [{ id: `${kind} ${name}`, kind, name, file, value }]
  })
}

/** ETags and the conditions that clients make of them (RFC 9110 §8.8.3 and §13.1). */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import type { Document } from '../policy/schema.ts'

export const ETags = Type.Optional(Type.String({ maxLength: 1_000 }))
export const IfNoneMatch = Type.Object({ 'if-none-match': ETags })
export const NOT_MODIFIED = { description: 'it is still the one that If-None-Match names' }

/** A strong validator of some text, with its quotation marks. */
export function tagOf(text: string): string {
  return `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`
}

/** A strong validator (RFC 9110 §8.8.3): the same document has the same tag on every gateway. */
export function etagOf(document: Document): string {
  return tagOf(canonical(document))
}

/** The same text whatever the order of keys: a file may have another than the request that wrote it. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}

/** Whether a list of ETags, or `*`, has this one (RFC 9110 §13.1); weak ones are never ours. */
export function namesOne(header: string | string[] | undefined, etag: string): boolean {
  const wanted = String(header ?? '').split(/\s*,\s*/)
  return wanted.includes('*') || wanted.includes(etag)
}

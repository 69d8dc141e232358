/** ETags and the conditions that clients make of them (RFC 9110 §8.8.3 and §13.1). */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import type { Document } from '../../policy/schema.ts'

export const ETags = Type.Optional(Type.String({ maxLength: 1_000 }))
/** What may be said of the version that one has, or expects, in a GET. */
export const GetConditions = Type.Object({ 'if-match': ETags, 'if-none-match': ETags })
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

/**
 * Whether If-None-Match names this ETag, or `*`: compared weakly (RFC 9110 §13.1.2), because a proxy that compresses
 * makes a weak one of it.
 */
export function namesOne(header: string | string[] | undefined, etag: string): boolean {
  return hasTag(
    tagsOf(header).map((tag) => tag.replace(/^W\//, '')),
    etag,
  )
}

/** Whether If-Match names this ETag, or `*`: compared strongly (RFC 9110 §13.1.1), so that a weak one never does. */
export function namesExactly(header: string | string[] | undefined, etag: string): boolean {
  return hasTag(tagsOf(header), etag)
}

function tagsOf(header: string | string[] | undefined): string[] {
  return String(header ?? '').split(/\s*,\s*/)
}

function hasTag(wanted: readonly string[], etag: string): boolean {
  return wanted.includes('*') || wanted.includes(etag)
}

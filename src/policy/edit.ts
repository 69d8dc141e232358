/** Changes of one document in a file's text; every other document, comment and blank line stays as it is. */
import { stringify } from 'yaml'
import type { Document } from './schema.ts'
import type { Span } from './yaml-source.ts'

/** A document as people write it: short sequences of addresses on one line. */
export function renderDocument(document: Document): string {
  return stringify(document, { lineWidth: 0, defaultKeyType: 'PLAIN' })
}

export function replaceDocument(text: string, span: Span, document: Document): string {
  return text.slice(0, span.contentStart) + renderDocument(document) + text.slice(span.contentEnd)
}

/** null when nothing but comments would be left: then the file itself should go. */
export function removeDocument(text: string, span: Span): string | null {
  const rest = text.slice(0, span.start) + text.slice(span.end)
  return rest.replace(/^(#.*|---|\.\.\.)?\s*$/gm, '').trim() === '' ? null : rest
}

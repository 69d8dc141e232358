/** From a plain value to a document of a known kind, or to all that is wrong with it. */
import type { Problem } from './diagnostic.ts'
import { quote } from './formats.ts'
import { DOCUMENT_SCHEMAS, type Document, KINDS, type Kind } from './schema.ts'
import { checkShape } from './shape.ts'
import { suggest } from './suggest.ts'

export type Checked = { readonly document: Document } | { readonly problems: readonly Problem[] }

/** Checks one document by itself; references to other documents are looked at when the model is built. */
export function checkDocument(value: unknown): Checked {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, 'kind')) {
    const message = 'a document must be a mapping with a kind and a name'
    return { problems: [{ pointer: '', code: 'not-a-document', message }] }
  }
  const kind = (value as { kind: unknown }).kind
  if (!isKind(kind)) {
    const written = typeof kind === 'string' ? quote(kind) : 'this'
    const message = `${written} is no kind of document${suggest(kind, KINDS)}; the kinds are ${KINDS.join(', ')}`
    return { problems: [{ pointer: '/kind', code: 'unknown-kind', message }] }
  }
  const problems = checkShape(DOCUMENT_SCHEMAS[kind], value)
  if (problems.length > 0) return { problems }
  const document = value as Document
  const more = checkTogether(document)
  return more.length > 0 ? { problems: more } : { document }
}

export function isKind(value: unknown): value is Kind {
  return typeof value === 'string' && Object.hasOwn(DOCUMENT_SCHEMAS, value)
}

/** Keys that must, or must not, stand together. */
function checkTogether(document: Document): Problem[] {
  switch (document.kind) {
    case 'list':
      if ((document.prefixes === undefined) === (document.file === undefined)) {
        const message = 'a list has either prefixes or a file'
        return [{ pointer: document.file === undefined ? '' : '/file', code: 'list-source', message }]
      }
      return []
    case 'policy':
      if ((document.action === 'redirect') !== (document.redirect_to !== undefined)) {
        const [pointer, message] =
          document.redirect_to === undefined
            ? ['/action', 'action: redirect needs redirect_to, the name of a relay']
            : ['/redirect_to', 'redirect_to goes with action: redirect only']
        return [{ pointer, code: 'redirect-target', message }]
      }
      return []
    default:
      return []
  }
}

/** Where a changed document goes in the policy directory. */
import { posix } from 'node:path'
import type { LocatedDocument } from '../../policy/build-model.ts'
import type { Problem } from '../../policy/diagnostic.ts'
import { checkDocument } from '../../policy/document.ts'
import { removeDocument, renderDocument, replaceDocument } from '../../policy/edit.ts'
import type { FileChange } from '../../policy/file-change.ts'
import type { Overlay } from '../../policy/files.ts'
import type { Loaded } from '../../policy/load.ts'
import { type Document, type Kind, PLURALS } from '../../policy/schema.ts'

/** The document in a request is not sound. */
export class DocumentError extends Error {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super('the document has mistakes; nothing was changed')
    this.problems = problems
  }
}

export function findDocument(
  { documents }: Pick<Loaded, 'documents'>,
  kind: Kind,
  name: string,
): LocatedDocument | null {
  return documents.find(({ document }) => document.kind === kind && document.name === name) ?? null
}

/**
 * Completes and checks a document that came by itself: kind and name may be left out, but not contradict.
 * @throws DocumentError
 */
export function completeDocument(kind: Kind, name: string, value: unknown): Document {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new DocumentError([
      { pointer: '', code: 'not-a-document', message: 'a document must be a mapping' },
    ])
  }
  const written = value as { kind?: unknown; name?: unknown }
  const problems: Problem[] = []
  if (Object.hasOwn(written, 'kind') && written.kind !== kind) {
    problems.push({ pointer: '/kind', code: 'bad-value', message: `must be ${kind}, as the address says` })
  }
  if (Object.hasOwn(written, 'name') && written.name !== name) {
    problems.push({ pointer: '/name', code: 'bad-value', message: `must be ${name}, as the address says` })
  }
  // Kind and name stand first in the file, as people write them.
  const checked = checkDocument({ ...{ kind, name }, ...written, kind, name })
  if ('problems' in checked) problems.push(...checked.problems)
  if (problems.length > 0 || 'problems' in checked) throw new DocumentError(problems)
  return checked.document
}

/** A new document gets a file of its own; a known one is changed where it stands. */
export function putChange(
  existing: LocatedDocument | null,
  textOf: (path: string) => string,
  document: Document,
): FileChange {
  if (existing === null) {
    return {
      path: posix.join(PLURALS[document.kind], `${document.name}.yaml`),
      text: renderDocument(document),
    }
  }
  const { origin, span } = existing.source
  return changeText(origin.file, textOf, (text) => replaceDocument(text, span, document))
}

export function deleteChange({ source }: LocatedDocument, textOf: (path: string) => string): FileChange {
  return changeText(source.origin.file, textOf, (text) => removeDocument(text, source.span))
}

/** The mark at the beginning of a text by which programs of Windows know UTF-8; whoever reads the policies skips it. */
const BYTE_ORDER_MARK = '\ufeff'

/** Places in a file are counted without the mark, and the file keeps it. */
function changeText(
  path: string,
  textOf: (path: string) => string,
  change: (text: string) => string | null,
): FileChange {
  const whole = textOf(path)
  const read = asRead(whole)
  const text = change(read)
  return { path, text: text === null ? null : whole.slice(0, whole.length - read.length) + text }
}

function asRead(text: string): string {
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(BYTE_ORDER_MARK.length) : text
}

/** What the directory would be read as with these changes; hidden files are no part of the policies. */
export function overlayOf(changes: readonly FileChange[]): Overlay {
  const shown = changes.filter(({ path }) => !path.split('/').some((part) => part.startsWith('.')))
  return new Map(
    shown.map(({ path, text }) => [
      path,
      text === null ? null : asRead(typeof text === 'string' ? text : Buffer.from(text).toString('utf8')),
    ]),
  )
}

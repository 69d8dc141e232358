/** YAML text to plain values, each with a way back from a JSON pointer to line and column. */
import {
  isMap,
  isNode,
  isScalar,
  isSeq,
  type LineCounter,
  type Node,
  visit,
  type YAMLError,
  type Document as YamlDocument,
} from 'yaml'
import { readYamlStream } from './bounded-yaml.ts'
import {
  type Diagnostic,
  type DiagnosticCode,
  diagnostic,
  type Origin,
  type Problem,
  type Range,
} from './diagnostic.ts'
import { findUnseen, nameOfCharacter } from './unseen.ts'

type Unseen = NonNullable<ReturnType<typeof findUnseen>>

/** One YAML document of a file that may hold several. */
export interface SourceDocument {
  readonly value: unknown
  readonly origin: Origin
  readonly span: Span
  /** Where the thing at a pointer stands; the nearest thing around it when there is none. */
  locate(problem: Pick<Problem, 'pointer' | 'atKey'>): Range
}

/** Offsets into the file: of the document with its `---`, and of the mapping in it. */
export interface Span {
  readonly start: number
  readonly contentStart: number
  readonly contentEnd: number
  readonly end: number
}

export interface SourceFile {
  readonly documents: readonly SourceDocument[]
  readonly diagnostics: readonly Diagnostic[]
}

/** Enough for anchors that people write by hand; far too few for a billion laughs. */
const MAX_ALIASES = 100

/**
 * Reads all documents of a YAML 1.2 text. Faults of syntax are diagnostics; documents with such faults are left out.
 * Never throws, whatever the text; beyond a hundred faults, or a bound of `bounded-yaml.ts`, the text is not read.
 */
export function parseYaml(file: string, text: string): SourceFile {
  const documents: SourceDocument[] = []
  const unseen = findUnseen(text)
  if (unseen !== null) return { documents, diagnostics: [unseenFault(file, text, unseen)] }
  const { documents: parsed, faults, exceeded, lines } = readYamlStream(text)
  const place = new Places(file, lines)
  const diagnostics: Diagnostic[] = []
  const mayEscape = /\\[^"\\]/.test(text)
  const report = ({ pos, code, message }: YAMLError) => {
    // The parser cites what it met.
    const hint = code === 'BAD_SCALAR_START' ? ' (put it in quotes)' : ''
    const sentence = `${oneLine(message)}${hint}`
    diagnostics.push(diagnostic(place.range(pos), yamlCode(code), sentence))
  }
  for (const doc of parsed) {
    // A separator with nothing behind it, as at the end of many files.
    if (isEmpty(doc) && doc.errors.length === 0) continue
    const mistakes = [...doc.errors, ...doc.warnings]
    for (const mistake of mistakes) report(mistake)
    const escaped = mayEscape && mistakes.length === 0 ? escapedFaults(doc, place) : []
    for (const one of escaped) diagnostics.push(one)
    if (mistakes.length + escaped.length > 0) continue
    const start = place.origin(doc.contents?.range[0] ?? 0)
    try {
      const value: unknown = doc.toJS({ maxAliasCount: MAX_ALIASES })
      documents.push({
        value,
        origin: start,
        span: {
          start: doc.range[0],
          contentStart: doc.contents?.range[0] ?? doc.range[0],
          contentEnd: doc.range[1],
          end: doc.range[2],
        },
        locate: ({ pointer, atKey }) => place.range(find(doc, pointer, atKey === true)),
      })
    } catch {
      // The parser resolves aliases only now, and then throws at the first that it cannot or will not.
      const lost = unresolvedAlias(doc)
      if (lost === null)
        diagnostics.push(diagnostic(start, 'too-complex', 'the document has too many aliases'))
      else
        diagnostics.push(
          diagnostic(place.range(lost), 'yaml-syntax', 'there is no anchor of this name above'),
        )
    }
  }
  for (const fault of faults) report(fault)
  if (exceeded !== null) {
    const message = `${exceeded.message}: nothing from here on is read`
    diagnostics.push(diagnostic(place.origin(exceeded.offset), 'too-complex', message))
  }
  return { documents, diagnostics }
}

/** Offsets into a file as lines and columns. */
class Places {
  readonly #file: string
  readonly #lines: LineCounter

  constructor(file: string, lines: LineCounter) {
    this.#file = file
    this.#lines = lines
  }

  origin(offset: number): Origin {
    const { line, col } = this.#lines.linePos(offset)
    return { file: this.#file, line: Math.max(line, 1), column: Math.max(col, 1) }
  }

  range([start, end]: Offsets): Range {
    const { line, column } = this.origin(end)
    return { ...this.origin(start), end: { line, column } }
  }
}

function unseenFault(file: string, text: string, { character, index }: Unseen): Diagnostic {
  const before = text.slice(0, index).split('\n')
  const at = { file, line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
  return diagnostic(
    at,
    'bad-encoding',
    `${nameOfCharacter(character)} cannot be seen, and has no place in a policy`,
  )
}

/** The same characters, written as escapes: "\x1b". */
function escapedFaults(doc: YamlDocument.Parsed, place: Places): Diagnostic[] {
  const found: Diagnostic[] = []
  visit(doc, {
    Scalar(_, { value, range }) {
      const unseen = typeof value === 'string' ? findUnseen(value) : null
      if (unseen === null || !range) return
      const message = `the text holds ${nameOfCharacter(unseen.character)}, which cannot be seen`
      found.push(diagnostic(place.range([range[0], range[1]]), 'bad-text', message))
    },
  })
  return found
}

function unresolvedAlias(doc: YamlDocument.Parsed): Offsets | null {
  let found: Offsets | null = null
  visit(doc, {
    Alias(_, alias) {
      if (alias.resolve(doc) !== undefined) return undefined
      found = offsets(alias) ?? [0, 0]
      return visit.BREAK
    },
  })
  return found
}

function oneLine(text: string): string {
  const line = (text.split(/[\n\r]/)[0] ?? '').replaceAll('\t', ' ')
  return line.length > 200 ? `${line.slice(0, 197)}...` : line
}

function isEmpty({ contents }: YamlDocument.Parsed): boolean {
  return contents === null || (isScalar(contents) && contents.source === '' && contents.tag === undefined)
}

function yamlCode(code: string): DiagnosticCode {
  if (code === 'DUPLICATE_KEY') return 'duplicate-key'
  return code === 'RESOURCE_EXHAUSTION' ? 'too-complex' : 'yaml-syntax'
}

/** Where something starts and where it ends. */
type Offsets = readonly [number, number]

function find(doc: YamlDocument.Parsed, pointer: string, atKey: boolean): Offsets {
  let node: unknown = doc.contents
  let found = offsets(doc.contents) ?? [0, 0]
  const steps = pointer.split('/').slice(1)
  for (const [index, raw] of steps.entries()) {
    const step = raw.replaceAll('~1', '/').replaceAll('~0', '~')
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === step)
      if (pair === undefined) return found
      const key = offsets(pair.key)
      if (atKey && index === steps.length - 1) return key ?? found
      node = pair.value
      // An empty value has no place of its own worth showing; its key has.
      found = (isScalar(node) && node.value === null ? key : offsets(node)) ?? key ?? found
    } else if (isSeq(node)) {
      node = node.items[Number(step)]
      found = offsets(node) ?? found
    } else return found
  }
  return found
}

function offsets(node: unknown): Offsets | undefined {
  const range = isNode(node) ? (node as Node).range : undefined
  return range ? [range[0], range[1]] : undefined
}

/** YAML text to plain values, each with a way back from a JSON pointer to line and column. */
import {
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  type Document as YamlDocument,
} from 'yaml'
import {
  type Diagnostic,
  type DiagnosticCode,
  diagnostic,
  type Origin,
  type Problem,
  type Range,
} from './diagnostic.ts'

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

/** Reads all documents of a YAML 1.2 text. Faults of syntax are diagnostics; documents with such faults are left out. */
export function parseYaml(file: string, text: string): SourceFile {
  const lines = new LineCounter()
  const originAt = (offset: number): Origin => {
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const rangeOf = ([start, end]: Offsets): Range => {
    const { line, column } = originAt(end)
    return { ...originAt(start), end: { line, column } }
  }
  const documents: SourceDocument[] = []
  const diagnostics: Diagnostic[] = []
  let parsed: readonly YamlDocument.Parsed[]
  try {
    const result = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false })
    parsed = 'empty' in result ? [] : result
  } catch (error) {
    // The parser descends recursively: thousands of open brackets exhaust the stack.
    if (!(error instanceof RangeError)) throw error
    return { documents, diagnostics: [diagnostic(originAt(0), 'too-complex', 'the YAML nests too deeply')] }
  }
  for (const doc of parsed) {
    // A separator with nothing behind it, as at the end of many files.
    if (doc.contents === null && doc.errors.length === 0) continue
    const faults = [...doc.errors, ...doc.warnings]
    if (faults.length > 0) {
      for (const { pos, code, message } of faults) {
        const sentence = message.split('\n')[0] ?? message
        diagnostics.push(diagnostic(rangeOf(pos), yamlCode(code), sentence))
      }
      continue
    }
    const start = originAt(doc.contents?.range[0] ?? 0)
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
        locate: ({ pointer, atKey }) => rangeOf(find(doc, pointer, atKey === true)),
      })
    } catch (error) {
      const reason = error instanceof RangeError ? 'nests too deeply' : 'has too many aliases'
      diagnostics.push(diagnostic(start, 'too-complex', `the document ${reason}`))
    }
  }
  return { documents, diagnostics }
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

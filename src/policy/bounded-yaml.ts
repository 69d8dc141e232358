/**
 * YAML text to YAML documents, within bounds. The parser itself has none: a few megabytes of brackets, empty keys or
 * stray quotes keep it busy for minutes. What is counted here is what no policy needs.
 */
import { Composer, type Document, Lexer, LineCounter, Parser, type YAMLError } from 'yaml'

export const YAML_LIMITS = {
  depth: 64,
  /** In one mapping. No document has so many, and each is compared with every other. */
  keys: 100,
  /** In one sequence: more than any field takes. */
  items: 200_000,
  /** Anchors, aliases and tags in one text. */
  properties: 1_000,
  documents: 100_000,
  /** After so many mistakes nobody reads on. */
  faults: 100,
} as const

export interface YamlStream {
  readonly documents: readonly Document.Parsed[]
  /** Mistakes that belong to no document. */
  readonly faults: readonly YAMLError[]
  /** Where a bound was met, and which; nothing from there on was read. null: all was read. */
  readonly exceeded: { readonly offset: number; readonly message: string } | null
  readonly lines: LineCounter
}

/** A bound was met; without a message when there were just too many mistakes. */
class Exceeded extends Error {}

/** Never throws. Documents come with their own mistakes; beyond the first 100 mistakes the text is not read. */
export function readYamlStream(text: string): YamlStream {
  const lines = new LineCounter()
  lines.addNewLine(0)
  const parser = new Parser(lines.addNewLine)
  const composer = new Composer({ prettyErrors: false, stringKeys: true, schema: 'core' })
  const documents: Document.Parsed[] = []
  const count = new Count()
  // Mistakes within a document are known only to the composer, which would go on to the last of a million.
  const report = composer['onError']
  composer['onError'] = (...mistake: Parameters<typeof report>) => {
    // The composer takes what is thrown through it for a mistake at each level of the document.
    if (!count.isFull) report(...mistake)
    count.fault()
  }
  let exceeded: YamlStream['exceeded'] = null
  try {
    for (const piece of new Lexer().lex(text)) {
      count.piece(piece)
      for (const token of parser.next(piece)) {
        count.document(token)
        documents.push(...composer.next(token))
        if (token.type === 'error') count.fault()
      }
      count.nesting(parser.stack)
    }
    for (const token of parser.end()) documents.push(...composer.next(token))
  } catch (error) {
    if (!(error instanceof Exceeded)) throw error
    if (error.message !== '') exceeded = { offset: parser.offset, message: error.message }
  }
  documents.push(...composer.end())
  const { errors, warnings } = composer.streamInfo()
  return { documents, faults: [...errors, ...warnings], exceeded, lines }
}

type Token = Parser['stack'][number]

class Count {
  #properties = 0
  #documents = 0
  #faults = 0

  get isFull(): boolean {
    return this.#faults >= YAML_LIMITS.faults
  }

  piece(piece: string): void {
    if (/^[&*!]/.test(piece) && ++this.#properties > YAML_LIMITS.properties) {
      throw new Exceeded(`more than ${YAML_LIMITS.properties} anchors, aliases and tags`)
    }
  }

  document({ type }: Token): void {
    if (type === 'document' && ++this.#documents > YAML_LIMITS.documents) {
      throw new Exceeded(`more than ${YAML_LIMITS.documents} documents`)
    }
  }

  nesting(stack: readonly Token[]): void {
    if (stack.length > YAML_LIMITS.depth) throw new Exceeded(`nests deeper than ${YAML_LIMITS.depth}`)
    const innermost = stack.at(-1)
    if (innermost === undefined || !('items' in innermost)) return
    const isSequence =
      innermost.type === 'block-seq' ||
      (innermost.type === 'flow-collection' && innermost.start.type === 'flow-seq-start')
    const [most, what] = isSequence
      ? [YAML_LIMITS.items, 'entries in a sequence']
      : [YAML_LIMITS.keys, 'keys in a mapping']
    if (innermost.items.length > most) throw new Exceeded(`more than ${most} ${what}`)
  }

  fault(): void {
    this.#faults++
    if (this.isFull) throw new Exceeded('')
  }
}

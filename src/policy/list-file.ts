/** Plain text lists: one address or prefix a line, `#` starts a comment, blank lines are fine. */
import { type Diagnostic, diagnostic } from './diagnostic.ts'
import { FORMATS } from './formats.ts'
import { parsePrefix } from './prefix.ts'
import { type PrefixSet, PrefixSetBuilder } from './prefix-set.ts'

export interface ListFile {
  readonly prefixes: PrefixSet
  readonly diagnostics: readonly Diagnostic[]
}

/** A file of the wrong kind has a fault in every line; a hundred of them tell enough. */
const MAX_DIAGNOSTICS = 100

/** Reads a list. */
export function parseListFile(file: string, text: string): ListFile {
  const prefixes = new PrefixSetBuilder()
  const diagnostics: Diagnostic[] = []
  let line = 0
  let hash = text.indexOf('#')
  for (let start = 0; start < text.length && diagnostics.length < MAX_DIAGNOSTICS; ) {
    let end = text.indexOf('\n', start)
    if (end < 0) end = text.length
    line++
    // Looked for once each, not once a line: most lists have few comments and many lines.
    if (hash >= 0 && hash < start) hash = text.indexOf('#', start)
    const written = text.slice(start, hash >= 0 && hash < end ? hash : end)
    const entry = written.trim()
    if (entry !== '') {
      const prefix = parsePrefix(entry)
      if (typeof prefix !== 'string') prefixes.add(prefix)
      else {
        const fault = FORMATS.prefix(entry)
        const column = written.length - written.trimStart().length + 1
        if (fault !== null) diagnostics.push(diagnostic({ file, line, column }, fault.code, fault.message))
      }
    }
    start = end + 1
  }
  return { prefixes: prefixes.finish(), diagnostics }
}

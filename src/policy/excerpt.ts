/** The line that a diagnostic speaks of, and the mark below it. */
import type { Diagnostic } from './diagnostic.ts'

/** A line of minified text is not shown in full. */
const MAX_WIDTH = 160

/** The diagnostic with its line of the file's text; as it is when the text has none such. */
export function withExcerpt<T extends Diagnostic>(one: T, text: string | undefined): T {
  if (text === undefined || one.excerpt !== undefined) return one
  const line = lineOf(text, one.line)
  return line === null || line.trim() === '' || line.length > 2_000 ? one : { ...one, excerpt: line }
}

/**
 * The excerpt as compilers show it: the line with its number, and carets below what is meant. Empty when there is
 * no line to show. Control characters never reach the terminal; tabs keep their place on both lines.
 */
export function renderExcerpt({ line, column, end, excerpt }: Diagnostic): string {
  if (excerpt === undefined) return ''
  // A long line is shown from a little before the place.
  const from = excerpt.length <= MAX_WIDTH ? 0 : Math.max(0, column - 41)
  const shown = excerpt.slice(from, from + MAX_WIDTH)
  const start = Math.min(column - 1 - from, shown.length)
  const stop = end === undefined ? start + 1 : end.line > line ? shown.length : end.column - 1 - from
  const width = Math.max(1, Math.min(stop, shown.trimEnd().length) - start)
  const gutter = String(line)
  const pad = shown.slice(0, start).replace(/[^\t]/g, ' ')
  return [
    ` ${gutter} | ${shown.replace(/[^\P{Cc}\t]|\p{Cf}/gu, '\ufffd')}`,
    ` ${' '.repeat(gutter.length)} | ${pad}${'^'.repeat(width)}`,
  ].join('\n')
}

function lineOf(text: string, line: number): string | null {
  let start = 0
  for (let n = 1; n < line; n++) {
    const next = text.indexOf('\n', start)
    if (next < 0) return null
    start = next + 1
  }
  const end = text.indexOf('\n', start)
  return text.slice(start, end < 0 ? undefined : end).replace(/\r$/, '')
}

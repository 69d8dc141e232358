// Text for people: columns that line up, and colour where there is a terminal to show it.

export type Paint = (text: string) => string

export interface Colours {
  readonly good: Paint
  readonly bad: Paint
  readonly dim: Paint
  readonly bold: Paint
}

/** Colours for a stream: none unless it is a terminal, nor when NO_COLOR is set (https://no-color.org). */
export function coloursFor(stream: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): Colours {
  const { NO_COLOR } = environment
  const on = stream.isTTY === true && !NO_COLOR
  const paint = (code: number): Paint => (on ? (text) => `\u001b[${code}m${text}\u001b[0m` : (text) => text)
  return { good: paint(32), bad: paint(31), dim: paint(2), bold: paint(1) }
}

/** One cell: its text, and how it is painted. */
export type Cell = string | { readonly text: string; readonly paint: Paint }

/** Lines of a table. Numbers stand to the right, everything else to the left; two spaces between columns. */
export function table(heads: readonly string[], rows: readonly (readonly Cell[])[], head: Paint): string[] {
  const widths = heads.map((text, column) =>
    Math.max(text.length, ...rows.map((row) => plain(row[column] ?? '').length)),
  )
  const right = heads.map((_, column) => rows.every((row) => /^\d*$/.test(plain(row[column] ?? ''))))
  const line = (cells: readonly Cell[], paint?: Paint) =>
    cells
      .map((cell, column) => {
        const text = plain(cell)
        const width = widths[column] ?? 0
        const aligned = right[column] ? text.padStart(width) : text.padEnd(width)
        return (paint ?? (typeof cell === 'string' ? (same: string) => same : cell.paint))(aligned)
      })
      .join('  ')
      .trimEnd()
  return [line(heads, head), ...rows.map((row) => line(row))]
}

/** Breaks a text between words into lines of at most `width` characters. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

function plain(cell: Cell): string {
  return typeof cell === 'string' ? cell : cell.text
}

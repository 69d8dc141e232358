/** Tables for people, JSON for programs. */
import { styleText } from 'node:util'
import { print, printJson } from './outcome.ts'

export interface Column<Row> {
  readonly title: string
  readonly text: (row: Row) => string
  /** How it stands out, on a terminal that has colours. */
  readonly style?: (row: Row) => Style | null
}

export type Style = 'red' | 'yellow' | 'green' | 'dim' | 'bold'

/** On a terminal, or where somebody says so; in a pipe, what follows wants JSON. */
export function wantsJson({ json }: { readonly json: boolean }): boolean {
  return json || process.stdout.isTTY !== true
}

/** Prints rows as a table, or what the service answered as it is. */
export function printRows<Row>(
  body: { readonly items: readonly Row[] },
  columns: readonly Column<Row>[],
  { json, none }: { readonly json: boolean; readonly none: string },
): void {
  if (wantsJson({ json })) printJson(body)
  else if (body.items.length === 0) print(none)
  else for (const line of renderTable(body.items, columns)) print(line)
}

/** Columns as wide as their widest cell; the last one as it comes. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string[] {
  const cells = rows.map((row) => columns.map(({ text }) => visible(text(row))))
  const widths = columns.map(({ title }, at) =>
    Math.max(title.length, ...cells.map((line) => line[at]?.length ?? 0)),
  )
  const pad = (text: string, at: number) => (at === columns.length - 1 ? text : text.padEnd(widths[at] ?? 0))
  const head = columns.map(({ title }, at) => pad(title.toUpperCase(), at)).join('  ')
  const lines = rows.map((row, number) =>
    columns
      .map(({ style }, at) => coloured(pad(cells[number]?.[at] ?? '', at), style?.(row) ?? null))
      .join('  '),
  )
  return [coloured(head.trimEnd(), 'dim'), ...lines.map((line) => line.trimEnd())]
}

/** Without effect where NO_COLOR is set, or standard output has no colours. */
export function coloured(text: string, style: Style | null): string {
  return style === null ? text : styleText(style, text, { stream: process.stdout, validateStream: true })
}

/** What others wrote must not steer the terminal. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\u00b7')
}

/** `3 min ago`: coarse, and never in the future. */
export function ago(time: string, now: number): string {
  const seconds = Math.max(0, Math.round((now - Date.parse(time)) / 1_000))
  for (const [size, unit] of [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
  ] as const) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`
  }
  return `${seconds} s ago`
}

// A comparison as tables: a row for each number of prefixes, a column for each program.
import type { Cell, Figure } from '../measurement.ts'

export type Compared = Figure & { readonly cell: Cell }

export function isComparison(figures: readonly Figure[]): figures is readonly Compared[] {
  return figures.length > 0 && figures.every(({ cell }) => cell !== undefined)
}

/** Lines of Markdown, a table for each task. What failed says why below it. */
export function tables(figures: readonly Compared[]): string[] {
  return unique(figures.map(({ cell }) => cell.task)).flatMap((task) => {
    const those = figures.filter(({ cell }) => cell.task === task)
    const programs = unique(those.map(({ cell }) => cell.program))
    const sizes = unique(those.map(({ cell }) => cell.prefixes))
    const at = (prefixes: number, program: string) =>
      those.find(({ cell }) => cell.prefixes === prefixes && cell.program === program)
    return [
      `| ${task}: prefixes | ${programs.join(' | ')} |`,
      `|---|${programs.map(() => '---').join('|')}|`,
      ...sizes.map((size) => {
        const cells = programs.map((program) => cellText(at(size, program)))
        return `| ${size.toLocaleString('en')} | ${cells.join(' | ')} |`
      }),
      '',
      ...those.flatMap(failure),
    ]
  })
}

export function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)]
}

function cellText(figure: Compared | undefined): string {
  if (figure === undefined) return '–'
  switch (figure.cell.outcome) {
    case 'done':
      return `${figure.result < 10 ? figure.result.toFixed(2) : figure.result.toFixed(0)} s`
    case 'over':
      return `> ${figure.result} s`
    case 'failed':
      return 'failed'
    case 'not reached':
      return '–'
    default:
      return figure.cell.outcome satisfies never
  }
}

function failure({ cell, what, detail }: Compared): string[] {
  if (cell.outcome !== 'failed') return []
  return [`Failed: ${what}: \`${detail.replaceAll('`', "'").split('\n').at(-1)?.slice(0, 200)}\``, '']
}

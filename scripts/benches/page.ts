// docs/performance.md, made from the results of this run and of earlier ones, which are kept in docs/performance.json.
import { readFileSync, writeFileSync } from 'node:fs'
import { plot } from './compare/plot.ts'
import { type Compared, isComparison, tables } from './compare/tables.ts'
import { describe, type Machine } from './machine.ts'
import type { Figure, Measurement } from './measurement.ts'

export interface Result {
  readonly machine: Machine
  readonly figures: readonly Figure[]
}

const RESULTS = new URL('../../docs/performance.json', import.meta.url)
const PAGE = new URL('../../docs/performance.md', import.meta.url)
const picture = (name: string) => new URL(`../../docs/performance-${name}.svg`, import.meta.url)

/** Keeps a result in place of an earlier one of the same measurement, and writes the page anew. */
export function keep(name: string, result: Result, measurements: readonly Measurement[]): void {
  const kept = { ...earlier(), [name]: result }
  const known = measurements.flatMap((one) => {
    const found = kept[one.name]
    return found === undefined ? [] : [{ measurement: one, result: found }]
  })
  const results = Object.fromEntries(known.map(({ measurement, result }) => [measurement.name, result]))
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`)
  for (const { measurement, result } of known) {
    if (isComparison(result.figures)) writeFileSync(picture(measurement.name), plot(result.figures))
  }
  writeFileSync(
    PAGE,
    [HEAD, ...known.map(({ measurement, result }) => section(measurement, result))].join('\n'),
  )
}

/** One line for a terminal. */
export function line(figure: Figure): string {
  if (figure.cell !== undefined && figure.cell.outcome !== 'done') {
    return `${figure.what}: ${figure.cell.outcome} (${withUnit(figure.result, figure)}) ${figure.detail}`.trimEnd()
  }
  return `${figure.what}: ${withUnit(figure.result, figure)}${spreadText(figure)}; goal ${goalText(figure)}: ${verdict(figure)}`
}

const HEAD = `# Performance

Written by \`sudo scripts/bench\`; \`scripts/bench --list\` names the measurements, and \`sudo scripts/bench NAME…\` takes
some of them anew. Each figure is a ratio against a reference that was measured in the same run, in turn with it; it is
the median over the rounds, with the middle half of them in brackets. Seconds are only there for orientation: they are
those of one machine on one day. Where others used the machine meanwhile (the load says so), ratios of figures that took
turns still hold, seconds do not.
`

function section({ name, title, about }: Measurement, { machine, figures }: Result): string {
  const commands = [...new Set(figures.map(({ command }) => command))]
  return [
    `## ${title}`,
    '',
    wrapped(about.trim()),
    '',
    ...(isComparison(figures) ? compared(name, figures) : rows(figures)),
    '',
    wrapped(
      `Measured by \`sudo scripts/bench ${name}\`, which runs ${commands.map((one) => `\`${one}\``).join(', ')}. ` +
        `${describe(machine)}.`,
    ),
    '',
  ].join('\n')
}

function rows(figures: readonly Figure[]): string[] {
  return ['| what | against | result | goal | met |', '|---|---|---|---|---|', ...figures.map(row)]
}

function compared(name: string, figures: readonly Compared[]): string[] {
  return [
    ...tables(figures),
    `![Seconds by the number of prefixes, both on logarithmic scales](performance-${name}.svg)`,
  ]
}

function row(figure: Figure): string {
  const { what, reference, detail, rounds } = figure
  const behind = detail === '' ? '' : `: ${detail}`
  const count = rounds > 1 ? `, ${rounds} rounds` : ''
  const result = `${withUnit(figure.result, figure)}${spreadText(figure)}${behind}${count}`
  return `| ${what} | ${reference ?? '–'} | ${result} | ${goalText(figure)} | ${verdict(figure)} |`
}

function spreadText({ spread, unit }: Figure): string {
  if (spread === null) return ''
  const [from, to] = [spread.from, spread.to].map((one) => one.toFixed(digits(unit)))
  return ` (${from} to ${to})`
}

function goalText(figure: Figure): string {
  return figure.goal === null ? '–' : `≤ ${figure.goal} ${figure.unit}`
}

function verdict({ result, goal }: Figure): string {
  return goal === null ? '–' : result <= goal ? 'yes' : '**no**'
}

/** In lines as a person would write them. */
function wrapped(text: string): string {
  return text.replace(/(.{1,118})(?: |$)/g, '$1\n').trimEnd()
}

function withUnit(value: number, { unit }: Figure): string {
  return `${value.toFixed(digits(unit))} ${unit}`
}

function digits(unit: Figure['unit']): number {
  return { '×': 3, s: 2, ms: 1, '%': 0, MB: 0, '/s': 0 }[unit]
}

function earlier(): Record<string, Result> {
  try {
    return JSON.parse(readFileSync(RESULTS, 'utf8'))
  } catch {
    return {} // none yet, or not readable any more: then all are taken anew
  }
}

/** Judges both halves of the corpus and writes the tables of docs/detection.md, between their markers. */
import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { SENDER_GROUPS } from '../../src/report/evidence.ts'
import { judgeCorpus, type KindScore, kindScores, type Score, scores } from './judged.ts'
import { GROUP_OF, observed, sortObserved } from './sorted.ts'
import type { Half } from './types.ts'

const PAGE = new URL('../../docs/detection.md', import.meta.url)
const BEGIN = '<!-- written by scripts/corpus: begin -->\n'
const SORTED_BEGIN = '<!-- sorting, written by scripts/corpus: begin -->\n'
const SORTED_END = '<!-- sorting, written by scripts/corpus: end -->'
const END = '<!-- written by scripts/corpus: end -->'
const SEEDS: Readonly<Record<Half, number>> = { train: 20_261_126, report: 20_270_101 }
const START = Date.UTC(2026, 8, 7)

const hosts = hostsOf(process.argv.slice(2))
const tables = (['report', 'train'] as const).map(tablesOf).join('\n')
const page = await readFile(PAGE, 'utf8')
const [before, after] = [page.indexOf(BEGIN), page.indexOf(END)]
if (before < 0 || after < before) {
  process.stderr.write(
    `corpus: docs/detection.md has no place for the tables, between ${BEGIN.trim()} and ${END}\n`,
  )
  process.exit(2)
}
const sorting = (['report', 'train'] as const).map(sortingOf).join('\n')
const written = between(`${page.slice(0, before)}${BEGIN}\n${tables}\n${page.slice(after)}`, sorting)
await writeFile(PAGE, written)
process.stdout.write(`${tables}\n${sorting}`)

function between(text: string, table: string): string {
  const [from, to] = [text.indexOf(SORTED_BEGIN), text.indexOf(SORTED_END)]
  if (from < 0 || to < from) throw new Error(`docs/detection.md has no ${SORTED_BEGIN.trim()}`)
  return `${text.slice(0, from)}${SORTED_BEGIN}\n${table}\n${text.slice(to)}`
}

function sortingOf(half: Half): string {
  const all = [...observed({ seed: SEEDS[half], half, hosts, start: START })]
  return [true, false]
    .map((withNames) => {
      const { classes, groups } = sortObserved(all, withNames)
      const rows = [...classes].map(([label, counts]) => {
        const cells = SENDER_GROUPS.map((group) => percent((counts.get(group) ?? 0) / hosts))
        return `| ${label} | ${GROUP_OF[label]} | ${cells.join(' | ')} |`
      })
      const share = (value: number | null) => (value === null ? '–' : percent(value))
      return [
        `The half that is ${half === 'report' ? 'reported' : 'tuned'} on, ${withNames ? 'with' : 'without'} a resolver, ${hosts} hosts of each class:`,
        '',
        `| hosts that are | belong to | ${SENDER_GROUPS.join(' | ')} |`,
        `|---|---|${SENDER_GROUPS.map(() => '---:').join('|')}|`,
        ...rows,
        '',
        '| group | precision | recall |\n|---|---:|---:|',
        ...groups.map(
          ({ group, precision, recall }) => `| ${group} | ${share(precision)} | ${share(recall)} |`,
        ),
        '',
      ].join('\n')
    })
    .join('\n')
}

function tablesOf(half: Half): string {
  const all = scores(judgeCorpus({ seed: SEEDS[half], half, hosts, start: START, blocked: true }))
  const what = half === 'report' ? 'reported on' : 'tuned on'
  return [
    `The half that is ${what}, ${hosts} hosts of each class:`,
    '',
    classTable(all),
    kindTable(kindScores(all)),
  ].join('\n')
}

function classTable(all: readonly Score[]): string {
  const rows = all.map(({ label, hosts: many, right, called, median, p90 }) => {
    const words = [...called]
      .sort(([, a], [, b]) => b - a)
      .map(([kind, count]) => `${kind ?? 'nothing'} ${count}`)
      .join(', ')
    return `| ${label} | ${percent(right / many)} | ${words} | ${time(median)} | ${time(p90)} |`
  })
  return [
    '| hosts that are | judged rightly | called | found after, median | 90 % |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n')
}

function kindTable(all: readonly KindScore[]): string {
  const rows = all.map(
    ({ kind, precision, recall }) => `| \`${kind}\` | ${percent(precision)} | ${percent(recall)} |`,
  )
  return ['| kind | precision | recall |', '|---|---|---|', ...rows, ''].join('\n')
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

function time(milliseconds: number | null): string {
  if (milliseconds === null) return '–'
  const seconds = milliseconds / 1000
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3_600).toFixed(1)} h`
}

function hostsOf(args: readonly string[]): number {
  try {
    const { values } = parseArgs({ args: [...args], options: { hosts: { type: 'string', default: '200' } } })
    const many = Number(values.hosts)
    if (!Number.isInteger(many) || many < 1 || many > 10_000)
      throw new Error('--hosts is a number from 1 to 10000')
    return many
  } catch (error) {
    process.stderr.write(`corpus: ${(error as Error).message}; usage: scripts/corpus [--hosts N]\n`)
    process.exit(2)
  }
}

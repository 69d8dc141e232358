/**
 * How well the report sorts: labelled senders of test/report/cases.ts, as Markdown for docs/detection.md.
 * Run it with: node_modules/.bin/node scripts/report-accuracy.ts
 */
import { SENDER_GROUPS } from '../src/report/evidence.ts'
import { sortSender } from '../src/report/sort-sender.ts'
import { labelledSenders } from '../test/report/cases.ts'

const EACH = 1_000
/** Thresholds were tuned on seed 1. */
const SEED = Number(process.argv[2] ?? 2)

const share = (part: number, whole: number) => (whole === 0 ? '–' : `${((100 * part) / whole).toFixed(1)} %`)
const print = (line: string) => process.stdout.write(`${line}\n`)

for (const withNames of [true, false]) {
  const sorted = labelledSenders(SEED, EACH).map((one) => {
    const evidence = withNames ? one.evidence : { ...one.evidence, name: null }
    return { ...one, group: sortSender(evidence).group }
  })
  print(`\n${withNames ? 'With a resolver' : 'Without a resolver'}, ${EACH} of each model:\n`)
  print(
    `| model | is | ${SENDER_GROUPS.join(' | ')} |\n|---|---|${SENDER_GROUPS.map(() => '---:').join('|')}|`,
  )
  for (const model of new Set(sorted.map((one) => one.model))) {
    const some = sorted.filter((one) => one.model === model)
    const cells = SENDER_GROUPS.map((group) =>
      share(some.filter((one) => one.group === group).length, some.length),
    )
    print(`| ${model} | ${some[0]?.label} | ${cells.join(' | ')} |`)
  }
  print('\n| group | precision | recall |\n|---|---:|---:|')
  for (const group of SENDER_GROUPS) {
    const said = sorted.filter((one) => one.group === group)
    const are = sorted.filter((one) => one.label === group)
    const right = said.filter((one) => one.label === group).length
    print(`| ${group} | ${share(right, said.length)} | ${share(right, are.length)} |`)
  }
}

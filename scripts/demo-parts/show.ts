// The end of the demo, as people read it.
import type { Service } from './service.ts'
import type { Row } from './step.ts'
import { type Cell, type Colours, table, wrap } from './table.ts'
import type { Report } from './verdict.ts'

/** Every step in a line, every incident in two, what went wrong, and in one line whether all went well. */
export function show(rows: readonly Row[], report: Report, service: Service, colours: Colours): string[] {
  const faults = [
    ...rows.flatMap((row) => row.faults.map((fault) => `${row.who} (${row.from}): ${fault}`)),
    ...report.faults,
  ]
  return [
    '',
    ...steps(rows, colours),
    '',
    ...incidents(report, service, colours),
    '',
    ...faults.map((fault) => `${mark(false, colours)} ${fault}`),
    verdict(rows, report, faults.length, colours),
  ]
}

/** A tick or a cross. */
export function mark(good: boolean, colours: Colours): string {
  return good ? colours.good('✓') : colours.bad('✗')
}

function steps(rows: readonly Row[], colours: Colours): string[] {
  const heads = ['', 'who', 'from', 'to', 'port', 'policy says', 'what happened']
  const lines = rows.map((row): Cell[] => {
    const good = row.faults.length === 0
    const sign = { text: good ? '✓' : '✗', paint: good ? colours.good : colours.bad }
    return [sign, row.who, row.from, row.to, String(row.port), row.policy, row.happened]
  })
  return table(heads, lines, colours.bold)
}

function incidents({ incidents }: Report, { deliveries }: Service, colours: Colours): string[] {
  const heads = ['incident', 'confidence', 'machine', 'attempts', 'destinations', 'alert arrived after']
  const lines = incidents.map((incident): Cell[] => {
    const alert = deliveries.find(({ fault, body }) => fault === null && body.includes(incident.id))
    const seconds = ((alert?.at ?? Number.NaN) - Date.parse(incident.first_seen)) / 1_000
    const { kind, confidence, source, attempts, destinations } = incident
    const delay = Number.isNaN(seconds) ? 'never' : `${seconds.toFixed(2)} s`
    return [kind, confidence, source, String(attempts), String(destinations), delay]
  })
  const sentence = (text: string) => wrap(text, 110).map((line) => colours.dim(`  ${line}`))
  const [head = '', ...body] = table(heads, lines, colours.bold)
  return [head, ...body.flatMap((line, n) => [line, ...sentence(incidents[n]?.summary ?? '')])]
}

function verdict(rows: readonly Row[], report: Report, faults: number, colours: Colours): string {
  if (faults > 0) {
    const where = faults === 1 ? 'the line above' : `the ${faults} faults above`
    return `${mark(false, colours)} Not all went as the policy says: see ${where}.`
  }
  const passed = rows.reduce((sum, row) => sum + row.passed, 0)
  const refused = rows.reduce((sum, row) => sum + row.refused, 0)
  const counts = `${passed} messages delivered, ${refused} attempts refused and counted`
  return `${mark(true, colours)} All went as the policy says: ${counts}, ${report.incidents.length} machines reported.`
}

/** Abuse reports field by field: RFC 5965 and 6692, and what the schemas of XARF 4 and X-ARF 0.2 ask for. */
import { isIP } from 'node:net'
import t from 'tap'
import { parse } from 'yaml'
import { arf } from '../../src/alerts/formats/arf.ts'
import { isReportable, type Report } from '../../src/alerts/formats/report.ts'
import { xarf } from '../../src/alerts/formats/xarf.ts'
import { ReportCounter } from '../../src/alerts/transport/report-counter.ts'
import { INCIDENT_KINDS } from '../../src/detect/incident.ts'
import { hostileMessage, incidentMessage, TIME } from './alert-samples.ts'

const ATTEMPTS = [
  { time: TIME, source: '100.64.1.2', sourcePort: 50_123, destination: '203.0.113.9' },
  { time: TIME - 2_000, source: '100.64.1.2', sourcePort: 50_122, destination: '2001:db8::9' },
]

const KINDS = INCIDENT_KINDS.filter((kind) => kind !== 'flood')

const reports: Report[] = [
  ...KINDS.map((kind) => incidentMessage('opened', { kind })),
  incidentMessage('opened', { source: '2001:db8:100:1::/64', attempts: 0 }),
  incidentMessage('opened', { summary: 'ü'.repeat(2_000) }),
  hostileMessage() as ReturnType<typeof incidentMessage>,
].flatMap((message) =>
  [[], ATTEMPTS].map((attempts) => ({
    message,
    envelope: { channel: 'abuse', from: 'abuse@example.net', to: ['anna@example.net'] },
    text: message.text,
    attempts,
    organisation: 'Example Net',
  })),
)

t.test('ARF', async (t) => {
  for (const report of reports) {
    const { type, parts, headers } = arf(report)
    t.equal(type, 'multipart/report; report-type=feedback-report')
    t.same(headers, {})
    t.same(
      parts.map(({ type }) => type),
      ['message/feedback-report', 'text/rfc822-headers'],
    )
    for (const { content } of parts) {
      t.match(
        content,
        /^([A-Za-z0-9-]+: [\x20-\x7e]{1,980}\r\n)+$/,
        'header fields, in ASCII, on one line each',
      )
    }
    const fields =
      parts[0]?.content
        .trim()
        .split('\r\n')
        .map((line) => line.split(': ') as [string, string]) ?? []
    const names = fields.map(([name]) => name)
    t.equal(new Set(names).size, names.length, 'each of them once')
    const given = Object.fromEntries(fields)
    // §3.1: required; §3.2: the rest.
    t.match(given['Feedback-Type'], /^(abuse|other)$/)
    t.match(given, { 'User-Agent': /^egress25\/\d+\.\d+\.\d+$/, Version: '1', Incidents: /^\d+$/ })
    t.match(given['Arrival-Date'], /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000$/)
    t.ok(isIP(given['Source-IP'] ?? ''))
    t.equal(given['Source-Port'], report.attempts.length > 0 ? '50123' : undefined, 'RFC 6692')
    t.equal((parts[1]?.content.match(/^X-Egress25-Attempt: /gm) ?? []).length, report.attempts.length)
  }
})

t.test('XARF 4', async (t) => {
  for (const report of reports) {
    const part = xarf(report).parts.at(-1)
    t.match(part, { type: 'application/json', name: 'xarf.json' })
    const body = JSON.parse(part?.content ?? '') as Record<string, unknown>
    const contact = { org: 'Example Net', contact: 'abuse@example.net', domain: 'example.net' }
    t.match(body, {
      ...{ xarf_version: /^4\.\d+\.\d+$/, reporter: contact, sender: contact, protocol: 'tcp' },
      report_id: /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/,
      timestamp: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/,
      first_seen: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/,
    })
    t.ok(isIP(String(body['source_identifier'])))
    t.ok(String(body['description']).length <= 1_000)
    const confidence = Number(body['confidence'])
    t.ok(confidence > 0 && confidence <= 1)
    const needed: Readonly<Record<string, object>> = {
      infected_host: { category: 'connection', bot_type: /^(malicious|unknown)$/, total_requests: Number },
      port_scan: { category: 'connection', source_port: 50_123 },
      misconfiguration: { category: 'vulnerability', service: 'smtp' },
    }
    t.match(body, needed[String(body['type'])] ?? { type: 'one that is known' })
    t.not(body['total_requests'], 0, 'at least one')
    const evidence = (body['evidence'] ?? []) as { payload: string; size: number; hash: string }[]
    t.equal(evidence.length, report.attempts.length > 0 ? 1 : 0)
    for (const { payload, size, hash } of evidence) {
      const log = Buffer.from(payload, 'base64')
      t.equal(log.length, size)
      t.match(hash, /^sha256:[0-9a-f]{64}$/)
      t.match(log.toString(), '2026-11-26T01:02:01.456Z 100.64.1.2:50122 -> [2001:db8::9]:25\n')
    }
  }
})

t.test('X-ARF 0.2: abuse_bot-infection_0.1.1, for infected machines', async (t) => {
  for (const report of reports) {
    const { type, parts, headers } = xarf(report)
    t.equal(type, 'multipart/mixed')
    const isInfected = ['spam-bot', 'exempt-host-anomaly'].includes(report.message.body.incident.kind)
    t.same(headers, isInfected ? { 'X-XARF': 'PLAIN' } : {})
    const [first, second] = parts
    t.equal(first?.name === 'report.txt', isInfected, 'nobody is called infected who is not')
    if (!isInfected) continue
    for (const version of ['1.1', '1.2'] as const) {
      const fields = parse(first?.content ?? '', { version }) as Record<string, unknown>
      t.match(fields, {
        ...{ 'Reported-From': 'abuse@example.net', Category: 'abuse', 'Report-Type': 'bot-infection' },
        ...{
          'Report-ID': /^[0-9a-f-]{36}@example\.net$/,
          'User-Agent': /^egress25\//,
          'Bot-Name': 'unknown',
        },
        ...{ 'Schema-URL': /^http:\/\/.*\/abuse_bot-infection_0\.1\.1\.json$/, Version: 0.2 },
        ...{ 'Destination-Port': 25, Occurrences: Number, Date: /^2026-11-26T01:02:03Z$/ },
      })
      t.equal(fields['Source-Type'], `ipv${isIP(String(fields['Source']))}`)
      const hasLog = report.attempts.length > 0
      t.equal(fields['Attachment'], hasLog ? 'text/plain' : 'none')
      t.equal(second?.type.startsWith('text/plain'), hasLog, 'the attachment is the part after it')
      t.same(
        [fields['Source-Port'], fields['Destination'], fields['Destination-Type']],
        hasLog ? [50_123, '203.0.113.9', 'ipv4'] : [undefined, undefined, undefined],
      )
    }
  }
})

t.test('a flood has no address to report', async (t) => {
  t.notOk(isReportable(incidentMessage('opened', { kind: 'flood', source: 'policy:residential' })))
  t.ok(isReportable(incidentMessage('opened', { source: '2001:db8:100:1::/64' })))
})

t.test('one address gets so many reports and no more, and is told how many were held back', async (t) => {
  const memory = new Map<string, string>()
  const given = {
    get: (key: string) => memory.get(key) ?? null,
    put: (key: string, value: string) => void memory.set(key, value),
  }
  let counter = new ReportCounter(given, { count: 3, per: 1_000 })
  const take = (now: number) => {
    const place = counter.take(now)
    if (place !== null) counter.arrived(place)
    return place
  }
  t.same([take(10_000), take(10_100)], Array(2).fill({ isLast: false, heldBack: 0 }))
  counter = new ReportCounter(given, { count: 3, per: 1_000 })
  t.same(counter.take(10_200), { isLast: true, heldBack: 0 }, 'over a restart, too')
  t.equal(counter.take(10_300), null)
  counter.giveBack()
  t.same(take(10_400), { isLast: true, heldBack: 1 }, 'one that could not be sent takes no place')
  t.same([take(10_500), take(10_600), take(10_999)], [null, null, null])
  const next = counter.take(11_000)
  t.same(next, { isLast: false, heldBack: 3 })
  counter.giveBack()
  t.same(take(11_001), { isLast: false, heldBack: 3 }, 'said when it has arrived')
  t.same(take(11_002), { isLast: false, heldBack: 0 })
  t.same(take(5_000), { isLast: false, heldBack: 0 }, 'a clock that was set back closes nothing')
})

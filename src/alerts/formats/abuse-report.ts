/**
 * An incident as an abuse desk reads it: ARF (RFC 5965, RFC 6692), or X-ARF, whose `report.txt` is version 0.2 and whose
 * `xarf.json` is version 4, so that old and new readers find their own. Both have time and source port (RFC 6302).
 */
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import MimeNode from 'nodemailer/lib/mime-node'
import { stringify } from 'yaml'
import { VERSION } from '../../version.ts'
import type { Attempt } from '../channel.ts'
import type { IncidentMessage, Text } from '../message.ts'
import { commonHeaders, type Envelope, SAFE } from './mail.ts'

export const REPORT_FORMATS = ['arf', 'xarf'] as const
export type ReportFormat = (typeof REPORT_FORMATS)[number]

export interface Report {
  readonly message: IncidentMessage
  readonly envelope: Envelope
  /** For people: what has happened, and what to do. */
  readonly text: Text
  /** The latest first; empty: none are known one by one. */
  readonly attempts: readonly Attempt[]
  readonly organisation: string
}

/** The mail as it goes over the wire; the same report always has the same headers. */
export function reportOf(report: Report, format: ReportFormat): Promise<Buffer> {
  const { message, envelope, text } = report
  const [type, parts, marks] = format === 'arf' ? arf(report) : xarf(report)
  const root = new MimeNode(type, SAFE)
  root.setHeader({ ...commonHeaders(message, envelope), Subject: text.subject, ...marks })
  root.createChild('text/plain; charset=utf-8').setContent(lines(...text.lines, ''))
  for (const [kind, content, name] of parts) {
    const part = root.createChild(kind, name === undefined ? {} : { filename: name })
    part.setHeader('Content-Disposition', name === undefined ? 'inline' : `attachment; filename=${name}`)
    part.setContent(content)
  }
  return root.build()
}

type Parts = readonly (readonly [type: string, content: string, name?: string])[]
type Form = readonly [type: string, parts: Parts, marks: Readonly<Record<string, string>>]

function arf(report: Report): Form {
  const { incident, last, source } = known(report)
  const fields = {
    'Feedback-Type': incident.kind === 'spam-bot' ? 'abuse' : 'other',
    'User-Agent': `egress25/${VERSION}`,
    Version: '1',
    'Arrival-Date': mailDate(last?.time ?? Date.parse(incident.last_seen)),
    'Source-IP': source,
    ...(last === null ? {} : { 'Source-Port': String(last.sourcePort) }),
    Incidents: String(incident.attempts),
  }
  // There is no mail to show: nothing was let through. The third part is for headers, and these are ours.
  const evidence = report.attempts.map((attempt) => `X-Egress25-Attempt: ${attemptLine(attempt)}`)
  const headers = evidence.length > 0 ? evidence : [`X-Egress25-Summary: ${report.text.subject}`]
  return [
    'multipart/report; report-type=feedback-report',
    [
      [
        'message/feedback-report',
        lines(...Object.entries(fields).map(([name, value]) => `${name}: ${value}`), ''),
      ],
      ['text/rfc822-headers; charset=utf-8', lines(...headers, '')],
    ],
    {},
  ]
}

function xarf(report: Report): Form {
  const { message, envelope } = report
  const { incident, last, source } = known(report)
  const id = uuidOf(message.key)
  const domain = envelope.from.slice(envelope.from.lastIndexOf('@') + 1)
  const contact = { org: report.organisation, contact: envelope.from, domain }
  const log = Buffer.from(report.attempts.map((attempt) => `${attemptLine(attempt)}\n`).join(''))
  const time = new Date(last?.time ?? Date.parse(incident.last_seen))
  const old = {
    'Reported-From': envelope.from,
    Category: 'abuse',
    'Report-Type': 'malware-attack',
    Service: 'smtp',
    Version: 0.2,
    'User-Agent': `egress25/${VERSION}`,
    Date: mailDate(time.getTime()),
    'Source-Type': 'ip-address',
    Source: source,
    ...(last === null ? {} : { 'Source-Port': last.sourcePort }),
    Port: 25,
    'Report-ID': id,
    'Schema-URL': 'http://www.x-arf.org/schema/abuse_malware-attack_0.1.2.json',
    Attachment: 'application/json',
  }
  const current = {
    xarf_version: '4.2.0',
    report_id: id,
    timestamp: time.toISOString(),
    reporter: contact,
    sender: contact,
    source_identifier: source,
    ...(last === null ? {} : { source_port: last.sourcePort, destination_ip: last.destination }),
    category: 'connection',
    type: 'infected_host',
    evidence_source: 'firewall_logs',
    confidence: incident.confidence === 'definite' ? 0.99 : 0.8,
    description: incident.summary.slice(0, 1_000),
    destination_port: 25,
    protocol: 'tcp',
    bot_type: incident.kind === 'spam-bot' ? 'malicious' : 'unknown',
    first_seen: incident.first_seen,
    last_seen: incident.last_seen,
    total_requests: incident.attempts,
    ...(log.length === 0 ? {} : { evidence: [evidenceOf(log)] }),
  }
  return [
    'multipart/mixed',
    [
      ['text/plain; charset=utf-8', stringify(old), 'report.txt'],
      ['application/json', JSON.stringify(current, null, 2), 'xarf.json'],
    ],
    { 'X-XARF': 'PLAIN' },
  ]
}

function evidenceOf(log: Buffer): object {
  return {
    content_type: 'text/plain',
    description: 'Attempts, the latest first: time, source and its port, destination and its port',
    payload: log.toString('base64'),
    hash: `sha256:${createHash('sha256').update(log).digest('hex')}`,
    size: log.length,
  }
}

/** The address that is reported: of a prefix the one that was seen last, else its first. */
function known({ message, attempts }: Report) {
  const { incident } = message.body
  const last = attempts[0] ?? null
  return { incident, last, source: last?.source ?? incident.source.split('/')[0] ?? incident.source }
}

/** Whether there is an address to report: a flood has none. */
export function isReportable({ body }: IncidentMessage): boolean {
  return isIP(body.incident.source.split('/')[0] ?? '') > 0
}

function attemptLine({ time, source, sourcePort, destination }: Attempt): string {
  return `${new Date(time).toISOString()} ${endpoint(source, sourcePort)} -> ${endpoint(destination, 25)}`
}

function endpoint(address: string, port: number): string {
  return isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`
}

function mailDate(time: number): string {
  return new Date(time).toUTCString().replace('GMT', '+0000')
}

function lines(...all: readonly string[]): string {
  return all.join('\r\n')
}

/** The same for the same report, in the form of a random one (RFC 9562 §5.4). */
function uuidOf(key: string): string {
  const hex = createHash('sha256').update(key).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

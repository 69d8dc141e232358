/**
 * An abuse report as XARF: `xarf.json` is version 4, and for old readers `report.txt` is version 0.2, with the attempts as
 * the evidence that both speak of. Version 0.2 has words for infected machines only; of others it says nothing.
 */
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import { stringify } from 'yaml'
import type { IncidentKind } from '../../detect/incident.ts'
import { VERSION } from '../../version.ts'
import { attemptLine, type Form, type Part, type Report, reported } from './report.ts'

/** What version 4 calls it: its schema, and what that asks for beside the common fields. */
const TYPES: Readonly<Record<IncidentKind, Readonly<Record<string, unknown>>>> = {
  'spam-bot': { category: 'connection', type: 'infected_host', bot_type: 'malicious' },
  'exempt-host-anomaly': { category: 'connection', type: 'infected_host', bot_type: 'unknown' },
  scanner: { category: 'connection', type: 'port_scan' },
  'misconfigured-client': { category: 'vulnerability', type: 'misconfiguration', service: 'smtp' },
  // A flood has no address to report.
  flood: { category: 'connection', type: 'ddos' },
}

/** Of a report at most (schema of version 4). */
const LONGEST_DESCRIPTION = 1_000

export function xarf(report: Report): Form {
  const log = report.attempts.map((attempt) => `${attemptLine(attempt)}\n`).join('')
  const isInfected = TYPES[report.message.body.incident.kind]['type'] === 'infected_host'
  const parts: Part[] = [
    ...(isInfected ? [{ type: TEXT, content: stringify(version02(report), YAML), name: 'report.txt' }] : []),
    ...(log === '' ? [] : [{ type: TEXT, content: log, name: 'attempts.txt' }]),
    { type: 'application/json', content: JSON.stringify(version4(report, log), null, 2), name: 'xarf.json' },
  ]
  return { type: 'multipart/mixed', parts, headers: isInfected ? { 'X-XARF': 'PLAIN' } : {} }
}

const TEXT = 'text/plain; charset=utf-8'
/** As old readers read it: what looks like a time is in quotes, so that it stays text. */
const YAML = { version: '1.1' } as const

function version02(report: Report): object {
  const { message, envelope, attempts } = report
  const { incident, last, source, time } = reported(report)
  const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4')
  return {
    'Reported-From': envelope.from,
    Category: 'abuse',
    'Report-Type': 'bot-infection',
    'Report-ID': `${uuidOf(message.key)}@${domainOf(envelope.from)}`,
    'User-Agent': `egress25/${VERSION}`,
    Date: withoutFraction(time),
    Source: source,
    'Source-Type': familyOf(source),
    ...(last === null
      ? {}
      : {
          'Source-Port': last.sourcePort,
          Destination: last.destination,
          'Destination-Type': familyOf(last.destination),
        }),
    'Destination-Port': 25,
    'Bot-Name': 'unknown',
    Occurrences: incident.attempts,
    Attachment: attempts.length > 0 ? 'text/plain' : 'none',
    'Schema-URL': 'http://www.x-arf.org/schema/abuse_bot-infection_0.1.1.json',
    Version: 0.2,
  }
}

function version4(report: Report, log: string): object {
  const { message, envelope } = report
  const { incident, last, source, time } = reported(report)
  const contact = {
    org: report.organisation,
    contact: envelope.from,
    domain: domainOf(envelope.from),
  }
  // A scan without its source port is none by the schema.
  const kind = incident.kind === 'scanner' && last === null ? 'exempt-host-anomaly' : incident.kind
  const { category, type, ...own } = TYPES[kind]
  return {
    xarf_version: '4.2.0',
    report_id: uuidOf(message.key),
    timestamp: new Date(time).toISOString(),
    reporter: contact,
    sender: contact,
    source_identifier: source,
    ...(last === null ? {} : { source_port: last.sourcePort, destination_ip: last.destination }),
    category,
    type,
    evidence_source: 'firewall_logs',
    confidence: incident.confidence === 'definite' ? 0.99 : 0.8,
    description: incident.summary.slice(0, LONGEST_DESCRIPTION),
    destination_port: 25,
    protocol: 'tcp',
    ...own,
    first_seen: incident.first_seen,
    last_seen: incident.last_seen,
    ...(type === 'infected_host' ? { total_requests: Math.max(1, incident.attempts) } : {}),
    ...(log === '' ? {} : { evidence: [evidenceOf(Buffer.from(log))] }),
  }
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

function domainOf(address: string): string {
  return address.slice(address.lastIndexOf('@') + 1)
}

function withoutFraction(time: number): string {
  return new Date(time).toISOString().replace(/\.\d+Z$/, 'Z')
}

/** The same for the same report, in the form of a random one (RFC 9562 §5.4). */
function uuidOf(key: string): string {
  const hex = createHash('sha256').update(key).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/** What a message says in a log: a sentence and structured data, or a line of CEF. */
import { isIP } from 'node:net'
import { VERSION } from '../../version.ts'
import type { Message, Severity } from '../message.ts'
import { formatCef } from './cef.ts'
import { detailsOf } from './details.ts'
import type { SyslogMessage } from './syslog.ts'
import { localUser, programOf, subscriberName } from './who.ts'

export interface SyslogContentOptions {
  readonly format: 'structured' | 'cef'
  /** The number in the name of the structured data (RFC 5424 §7.2.2). */
  readonly enterprise: number
}

/** RFC 5424 §6.2.1: notice, warning, critical. */
const SYSLOG_SEVERITIES: Readonly<Record<Severity, number>> = { info: 5, warning: 4, critical: 2 }
const CEF_SEVERITIES: Readonly<Record<Severity, number>> = { info: 3, warning: 6, critical: 9 }

export function syslogContent(
  message: Message,
  { format, enterprise }: SyslogContentOptions,
): Pick<SyslogMessage, 'severity' | 'id' | 'data' | 'text' | 'mark'> {
  const { body, text, severity, key } = message
  const facts = detailsOf(body).map(({ name, value }) => [name, value] as const)
  const data = [['event', body.event], ['key', key], ...facts] as const
  const structured = format === 'structured'
  return {
    severity: SYSLOG_SEVERITIES[severity],
    id: body.event,
    data: { id: `egress25@${enterprise}`, parameters: structured ? data : [] },
    text: structured ? text.subject : cefLine(message),
    mark: structured,
  }
}

function cefLine(message: Message): string {
  const { about, body, text, severity, time, key, gateway } = message
  return formatCef({
    version: VERSION,
    classId: about === 'incident' ? `${message.body.incident.kind}:${body.event}` : body.event,
    name: text.subject,
    severity: CEF_SEVERITIES[severity],
    extensions: [
      ['rt', String(time)],
      ['dvchost', gateway],
      ['externalId', about === 'incident' ? message.body.incident.id : key],
      ['cat', about],
      ...(about === 'incident' ? incidentExtensions(message.body.incident) : []),
      ['msg', text.lines.join('\n')],
    ],
  })
}

const ACTIONS = { block: 'blocked', redirect: 'redirected', observe: 'observed', allow: 'allowed' } as const

function incidentExtensions(
  incident: Extract<Message, { about: 'incident' }>['body']['incident'],
): [string, string][] {
  const { source, attempts, verdict, policy, confidence, first_seen, last_seen, top_destinations } = incident
  const user = localUser(incident) ?? subscriberName(incident)
  const program = programOf(incident)
  // A flood has no machine but the name of a policy.
  const [address = source, length] = source.split('/')
  const family = isIP(address)
  const destination = top_destinations[0]?.destination
  return [
    ...(family === 6 ? labelled('c6a2', address, 'Source IPv6 Address') : []),
    ...(family === 4 ? one('src', address) : []),
    ...(family === 0 || length !== undefined ? labelled('cs3', source, 'Source') : []),
    ...(destination === undefined
      ? []
      : destination.includes(':')
        ? labelled('c6a3', destination, 'Destination IPv6 Address')
        : one('dst', destination)),
    ['dpt', '25'],
    ['proto', 'TCP'],
    ['act', ACTIONS[verdict]],
    ['cnt', String(attempts)],
    ['start', String(Date.parse(first_seen))],
    ['end', String(Date.parse(last_seen))],
    ...(user === null ? [] : one('suser', user)),
    ...(program === null ? [] : one('sproc', program)),
    ...(policy === null ? [] : labelled('cs1', policy, 'Policy')),
    ...labelled('cs2', confidence, 'Confidence'),
  ]
}

function one(key: string, value: string): [string, string][] {
  return [[key, value]]
}

/** Fields for anything, which say themselves what they hold. */
function labelled(key: string, value: string, label: string): [string, string][] {
  return [
    [`${key}Label`, label],
    [key, value],
  ]
}

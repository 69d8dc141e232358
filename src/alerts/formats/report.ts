/** What the formats of abuse reports have in common: the machine, its attempts, times. */
import { isIP } from 'node:net'
import type { Attempt } from '../channel.ts'
import type { IncidentMessage, Text } from '../message.ts'
import type { Envelope } from './mail.ts'

export interface Report {
  readonly message: IncidentMessage
  readonly envelope: Envelope
  /** For people: what has happened, and what to do. */
  readonly text: Text
  /** The latest first; empty: none are known one by one. */
  readonly attempts: readonly Attempt[]
  readonly organisation: string
}

/** A report in a format: what the mail is, its parts after the text for people, and headers of its own. */
export interface Form {
  readonly type: string
  readonly parts: readonly Part[]
  readonly headers: Readonly<Record<string, string>>
}

export interface Part {
  readonly type: string
  readonly content: string
  /** Of an attachment; null: it is shown with the text. */
  readonly name: string | null
}

/** Whether there is an address to report: a flood has none. */
export function isReportable({ body }: IncidentMessage): boolean {
  return isIP(body.incident.source.split('/')[0] ?? '') > 0
}

/** The address that is reported: of a prefix the one that was seen last, else its first. */
export function reported({ message, attempts }: Report) {
  const { incident } = message.body
  const last = attempts[0] ?? null
  const source = last?.source ?? incident.source.split('/')[0] ?? incident.source
  return { incident, last, source, time: last?.time ?? Date.parse(incident.last_seen) }
}

/** With time, source port and destination (RFC 6302). */
export function attemptLine({ time, source, sourcePort, destination }: Attempt): string {
  return `${new Date(time).toISOString()} ${endpoint(source, sourcePort)} -> ${endpoint(destination, 25)}`
}

function endpoint(address: string, port: number): string {
  return isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`
}

export function lines(...all: readonly string[]): string {
  return all.join('\r\n')
}

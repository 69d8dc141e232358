/** The report as clients see it. */
import type { Subscriber } from '../subscribers/subscriber.ts'
import type { SenderEvidence, SenderVerdict } from './evidence.ts'

export interface ReportItem extends SenderVerdict {
  /** The machine: an address, or an IPv6 prefix. */
  readonly source: string
  readonly policy: string
  readonly subscriber: Subscriber | null
  readonly evidence: EvidenceBody
}

export interface EvidenceBody {
  readonly attempts: number
  readonly destinations: number
  readonly destinations_in_minute: number
  readonly top_share: number
  readonly tries_per_server: number
  readonly active_hours: number
  readonly busiest_hour: number
  readonly recurrence: number
  readonly span_hours: number
  readonly closed: number
  readonly segments: number
  readonly payload: number
  readonly received_segments: number
  readonly received_payload: number
  /** null: nothing, or there is no resolver to ask (then `name_confirmed` is null, too). */
  readonly ptr: string | null
  readonly name_confirmed: boolean | null
  readonly incidents: readonly string[]
  readonly first_seen: string
  readonly last_seen: string
}

export interface ReportBody {
  readonly from: string
  readonly to: string
  readonly policies: readonly string[]
  readonly resolver: string | null
  readonly items: readonly ReportItem[]
  /** There are more machines than are looked at: those with the fewest attempts are left out. */
  readonly truncated: boolean
}

export function evidenceBody(evidence: SenderEvidence, first: number, last: number): EvidenceBody {
  return {
    attempts: evidence.attempts,
    destinations: evidence.destinations,
    destinations_in_minute: evidence.destinationsInMinute,
    top_share: toThousandths(evidence.topShare),
    tries_per_server: toThousandths(evidence.triesPerServer),
    active_hours: evidence.activeHours,
    busiest_hour: evidence.busiestHour,
    recurrence: toThousandths(evidence.recurrence),
    span_hours: evidence.spanHours,
    closed: evidence.closed,
    segments: evidence.segments,
    payload: evidence.payload,
    received_segments: evidence.received.segments,
    received_payload: evidence.received.payload,
    ptr: evidence.name?.ptr ?? null,
    name_confirmed: evidence.name?.confirmed ?? null,
    incidents: evidence.incidents,
    first_seen: new Date(first).toISOString(),
    last_seen: new Date(last).toISOString(),
  }
}

function toThousandths(value: number): number {
  return Math.round(value * 1000) / 1000
}

/**
 * What can be told: a small union of plain objects. Programs read `body`, which is the JSON that a webhook posts; people
 * read `text`, in the channel's language. Both say the same.
 */

import type { IncidentKind } from '../detect/incident.ts'
import type { IncidentBody } from '../detect/incident-body.ts'

/** In ascending order. */
export const SEVERITIES = ['info', 'warning', 'critical'] as const
export type Severity = (typeof SEVERITIES)[number]

/** What news can be about; a channel chooses among them. */
export const TOPICS = ['incident', 'exemption', 'drift', 'preflight'] as const
export type Topic = (typeof TOPICS)[number]

/** What can happen, by what it is about. */
export const SINGLE_EVENTS = {
  incident: ['opened', 'updated', 'resolved', 'reminder'],
  exemption: ['exemption-lapses', 'exemption-lapsed', 'exemption-revoked'],
  drift: ['table-contested', 'table-uncontested'],
  preflight: ['preflight-appeared', 'preflight-gone'],
} as const satisfies Record<Topic, readonly string[]>
type EventOf<T extends Topic> = (typeof SINGLE_EVENTS)[T][number]

/** For people: no markup, no control characters; a line may be longer than a terminal is wide. */
export interface Text {
  /** On one line, at most 200 characters. */
  readonly subject: string
  /** Paragraphs; an empty line is a break. */
  readonly lines: readonly string[]
}

/** In every body; `time` in RFC 3339. */
interface News {
  readonly gateway: string
  readonly time: string
  readonly severity: Severity
}

export interface IncidentNews extends News {
  /** A reminder says that an incident still lasts. */
  readonly event: EventOf<'incident'>
  readonly incident: IncidentBody
  /** The network of a policy that the machine is in; null: nobody knows (any more). */
  readonly network: string | null
  /** Which incident of this machine it is within `alert_escalation.within`; 1: the first. */
  readonly occurrence: number
}

export interface ExemptionNews extends News {
  readonly event: EventOf<'exemption'>
  readonly exemption: {
    readonly name: string
    /** RFC 3339; null: it had no end. */
    readonly expires: string | null
    readonly owner: string | null
    readonly ticket: string | null
    readonly reason: string | null
    readonly sources: readonly string[]
    /** How many there are beside those that are named. */
    readonly more_sources?: number
  }
  /** Why it was revoked: the incident of one of its machines. */
  readonly incident?: string
}

export interface DriftNews extends News {
  readonly event: EventOf<'drift'>
  /** The program that changed our table, and what it did first; null: nobody knows, or it is over. */
  readonly by: {
    readonly pid: number
    readonly program: string
    readonly what: string
    /** How much of it. */
    readonly damage: 'rules' | 'everything'
  } | null
  /** Milliseconds until it is put right. */
  readonly heal_in_ms?: number
}

export interface PreflightNews extends News {
  readonly event: EventOf<'preflight'>
  readonly preflight: { readonly code: string; readonly message: string }
}

export interface TestNews extends News {
  readonly event: 'test'
}

/** One piece of news, as it happens. */
export type SingleNews = IncidentNews | ExemptionNews | DriftNews | PreflightNews

/** Why news was held back: too much of one kind, too much in all, quiet hours, a receiver that was away, a silence. */
export const HELD_BECAUSE = ['group', 'limit', 'quiet-hours', 'backlog', 'silence'] as const
export type HeldBecause = (typeof HELD_BECAUSE)[number]

/** Much news in one message: its scale and the worst of it. Every incident is in `/v1/incidents` all the same. */
export interface DigestNews extends News {
  readonly event: 'digest'
  readonly digest: {
    readonly because: readonly HeldBecause[]
    /** Times of the first and the last of the news, RFC 3339. */
    readonly since: string
    readonly until: string
    readonly news: number
    /** How many machines. */
    readonly machines: number
    /** How many attempts all of them made together. */
    readonly attempts: number
    /** News by its event: opened, updated, resolved, reminder, exemption-lapses … */
    readonly by_event: Readonly<Record<string, number>>
    /** Machines by the kind of their incident. */
    readonly by_kind: Readonly<Partial<Record<IncidentKind, number>>>
    /** The policies or networks with most machines, at most 10. */
    readonly by_network: readonly { readonly network: string; readonly machines: number }[]
    /** At most 10, the worst first, as they were when they were told of last. */
    readonly worst: readonly IncidentBody[]
    /** News that is about no incident, at most 10 of it. */
    readonly others: readonly Exclude<SingleNews, IncidentNews>[]
    /** News that was thrown away because the channel could not be reached for too long, and its queue was full. */
    readonly dropped: number
  }
}

export type Body = SingleNews | DigestNews | TestNews

interface About<A extends string, B extends Body> {
  readonly about: A
  /** Idempotency key, unique within a channel: the same message, tried again, has the same one. */
  readonly key: string
  readonly gateway: string
  /** When it happened, in milliseconds since the epoch. */
  readonly time: number
  readonly severity: Severity
  readonly text: Text
  /** For programs: JSON in snake_case, the body of a webhook. */
  readonly body: B
}

export interface IncidentMessage extends About<'incident', IncidentNews> {
  /** For the subscriber rather than the operator: RFC 6561 §5. In the language of the channel. */
  readonly notice: Text
}

export type Message =
  | IncidentMessage
  | About<'digest', DigestNews>
  | About<'exemption', ExemptionNews>
  | About<'drift', DriftNews>
  | About<'preflight', PreflightNews>
  | About<'test', TestNews>

/** What a channel wants to hear, and how: its configuration as the planner reads it. Times in milliseconds. */
import type { IncidentKind } from '../../detect/incident.ts'
import type { Prefix } from '../../policy/prefix.ts'
import type { Severity, Topic } from '../message.ts'
import type { MessageLimit } from './message-limit.ts'

/** What a channel wants to hear at all. An empty list: everything. */
export interface Routing {
  readonly minSeverity: Severity
  readonly about: readonly Topic[]
  /** These three are about incidents only. */
  readonly kinds: readonly IncidentKind[]
  readonly policies: readonly string[]
  readonly networks: readonly Prefix[]
}

/** How it wants to hear it. */
export interface Handling {
  /** Messages within any span of `per`; null: each piece of news is a message of its own, and nothing is held back. */
  readonly limit: MessageLimit | null
  readonly group: Grouping
  readonly quietHours: QuietHours | null
  /** Between two messages that an incident lasts; null: never. */
  readonly remind: number | null
  /** After so long a message that could not be delivered is put aside. */
  readonly giveUp: number
  /** For one try. */
  readonly timeout: number
  /** Messages under way at once. */
  readonly parallel: number
  /** Of the texts, such as `en`. */
  readonly language: string
}

/** News of one group comes one by one at first, and then together. */
export interface Grouping {
  readonly by: readonly ('policy' | 'network' | 'kind')[]
  /** So many within `wait` are told singly. */
  readonly first: number
  readonly wait: number
}

/** Daily, in a time zone; from 22:00 to 06:00 is over midnight. */
export interface QuietHours {
  /** Minutes since midnight. */
  readonly from: number
  readonly to: number
  /** IANA name, such as `Europe/Berlin`. */
  readonly zone: string
  /** What is at least so severe is told all the same; null: nothing is. */
  readonly except: Severity | null
}

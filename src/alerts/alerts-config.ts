/** Alerts as they are configured. */
import type { Handling, Routing } from './planning/handling.ts'
import type { Escalation } from './planning/severity.ts'
import type { Silence } from './planning/silence.ts'

export interface ChannelConfig {
  readonly name: string
  readonly type: string
  readonly routing: Routing
  readonly handling: Handling
  /** What only its type knows. */
  readonly fields: Readonly<Record<string, unknown>>
}

/** What holds for all channels. */
export interface AlertingConfig {
  /** Where the operator's own texts are; null: the shipped ones hold. */
  readonly textDirectory: string | null
  /** IANA name. */
  readonly zone: string
  readonly contact: string | null
  readonly escalation: Escalation
  readonly silences: readonly Silence[]
}

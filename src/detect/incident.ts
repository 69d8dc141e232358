/** What is known of one machine's misbehaviour. */
export const INCIDENT_KINDS = [
  'spam-bot',
  'misconfigured-client',
  'exempt-host-anomaly',
  'scanner',
  'flood',
] as const

export type IncidentKind = (typeof INCIDENT_KINDS)[number]

/** RFC 6561 §4: a single signal makes it likely, strong evidence definite. */
export type Confidence = 'likely' | 'definite'

/** Times are milliseconds since the epoch. */
export interface Incident {
  readonly id: string
  readonly kind: IncidentKind
  readonly confidence: Confidence
  readonly state: 'open' | 'resolved'
  /** The machine: an address, or an IPv6 prefix of the policy's length, in canonical text. */
  readonly source: string
  readonly policy: string
  readonly verdict: 'block' | 'redirect' | 'observe'
  readonly firstSeen: number
  readonly lastSeen: number
  readonly attempts: number
  /** Distinct destinations; at least so many, beyond 1,000. */
  readonly destinations: number
  readonly topDestinations: readonly { readonly destination: string; readonly attempts: number }[]
  readonly acknowledged: boolean
  readonly summary: string
}

export interface IncidentEvent {
  readonly event: 'opened' | 'updated' | 'resolved'
  /** When it happened, in milliseconds since the epoch. */
  readonly time: number
  readonly incident: Incident
}

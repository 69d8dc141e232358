/** What is known of one machine's misbehaviour, or of a flood in which no machine can be told from another. */
import type { LocalProcess } from '../watch/local-processes.ts'

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

/** What spoke against the machine; docs/detection.md explains each. */
export const EVIDENCE_RULES = [
  /** Many destinations in a short time. */
  'fan-out',
  /** Few destinations, but more connections than any patient program makes. */
  'hammering',
  /** Many destinations over a long time, each hardly twice. */
  'slow-fan-out',
  /** Addresses next to each other. */
  'neighbours',
  /** The same few destinations, again and again. */
  'retries',
  /** The kernel counted what nobody told: much, and nothing else is known. */
  'count',
  /** More attempts than this host ever makes. */
  'rate-above-usual',
  /** More destinations than this host ever has. */
  'fan-out-above-usual',
  /** Machines that were never seen before, hardly an attempt each. */
  'spoofed-sources',
] as const

export type EvidenceRule = (typeof EVIDENCE_RULES)[number]

/** The numbers behind a judgement, as they were when it was made. */
export interface Evidence {
  readonly rule: EvidenceRule
  /** Milliseconds that the numbers are about. */
  readonly window: number
  readonly attempts: number
  /** Attempts that are no retransmissions. */
  readonly connections: number
  /** Distinct ones; a lower bound where there are very many. */
  readonly destinations: number
  /** Distinct source addresses: of an IPv6 prefix, or of a flood. */
  readonly sources: number
  /** What the policy says is too much, by the name of the number above. */
  readonly limits: Readonly<Partial<Record<'attempts' | 'connections' | 'destinations' | 'sources', number>>>
  /** The most that an exempt host did in so long a time until then; null for others. */
  readonly usual: { readonly attempts: number; readonly destinations: number } | null
}

export interface LocalUser {
  readonly uid: number
  /** null: nobody has the id, or its name is not known yet. */
  readonly name: string | null
}

/** Times are milliseconds since the epoch. */
export interface Incident {
  readonly id: string
  readonly kind: IncidentKind
  readonly confidence: Confidence
  readonly state: 'open' | 'resolved'
  /**
   * The machine: an address, or an IPv6 prefix of the policy's length, in canonical text. Of a flood, which has no
   * machine, `policy:` and the name of the policy whose networks its sources pretend to be in.
   */
  readonly source: string
  /**
   * The user of this machine whose processes did it: each has incidents of their own, with the machine's address as their
   * source. null: it was forwarded, or what was counted cannot be put on one of the users.
   */
  readonly user: LocalUser | null
  /** The program that was seen making one of the user's attempts; null: nobody saw. */
  readonly process: LocalProcess | null
  /** null: no policy governs it, as is so with many relays. */
  readonly policy: string | null
  readonly verdict: 'block' | 'redirect' | 'observe' | 'allow'
  readonly firstSeen: number
  readonly lastSeen: number
  /** All that are known of, also those of which no more is known than that there were so many. */
  readonly attempts: number
  /** Of these, those that the kernel counted and nobody told: nothing else is known of them. */
  readonly lost: number
  /**
   * Where the kernel's counter of the machine stood when `attempts` was right: what it has grown by since then is not in it.
   * null: nobody knows, or the kernel has no counter of its own for it.
   */
  readonly counter: number | null
  /** Distinct destinations; at least so many, beyond 1,000. */
  readonly destinations: number
  readonly topDestinations: readonly { readonly destination: string; readonly attempts: number }[]
  readonly evidence: Evidence
  /** Interfaces by which it came, the busiest first; empty where nothing tells. At most three. */
  readonly interfaces: readonly string[]
  /** Hardware addresses that it came from, the busiest first. At most three. */
  readonly hardwareAddresses: readonly string[]
  /** How often it was resolved and came back. */
  readonly reopened: number
  /** A person looks after it. */
  readonly acknowledged: boolean
  readonly summary: string
}

export interface IncidentEvent {
  /** An incident that comes back is opened again: `reopened` says how often. */
  readonly event: 'opened' | 'updated' | 'resolved'
  /** When it happened, in milliseconds since the epoch. */
  readonly time: number
  readonly incident: Incident
}

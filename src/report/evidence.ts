/** What is known of one machine that would be blocked: numbers, and where they come from. */

import type { Rhythm } from './rhythm.ts'

export interface SenderEvidence extends Rhythm {
  /** SYNs to port 25, by the kernel's exact count. */
  readonly attempts: number
  /** Distinct servers, and the share of attempts that went to the one tried most (0 to 1). */
  readonly destinations: number
  readonly topShare: number
  /** The most distinct servers in one minute. */
  readonly destinationsInMinute: number
  /** How often each server was tried, on average of those that the history names. */
  readonly triesPerServer: number
  /** Hours from its first attempt to its last. */
  readonly spanHours: number
  /** Connections that it ended in order: they had been answered. */
  readonly closed: number
  /** Packets with data that it sent, and the bytes in them without headers. */
  readonly segments: number
  readonly payload: number
  /** The same of what others sent to its port 25. */
  readonly received: { readonly segments: number; readonly payload: number }
  /** Its name in the DNS; null when there is no resolver to ask. */
  readonly name: NameEvidence | null
  /** Kinds of its incidents. */
  readonly incidents: readonly string[]
}

export interface NameEvidence {
  /** What its address points to (PTR); null: nothing. */
  readonly ptr: string | null
  /** That name leads back to the address, so it could greet with it (RFC 5321 §2.3.5). */
  readonly confirmed: boolean
}

export const SENDER_GROUPS = ['mail-server', 'bot', 'misconfigured-client', 'cannot-tell'] as const
export type SenderGroup = (typeof SENDER_GROUPS)[number]

export interface SenderVerdict {
  readonly group: SenderGroup
  readonly confidence: 'likely' | 'definite'
  /** What speaks for each side, in words. */
  readonly reasons: readonly string[]
}

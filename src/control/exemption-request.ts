/**
 * A wish for an exemption, and what became of it. Pure; times are milliseconds since the epoch.
 *
 *   requested ─► approving ─► approved ─► revoked
 *       ├──────► refused        (in-force, expiring, expired: what its exemption is)
 *       └──────► withdrawn
 */

import { parseTimestamp } from '../policy/formats.ts'
import type { ExemptionDocument } from '../policy/schema.ts'

/** What is decided. `approving`: it is, and whether the exemption came into force a crash may hide. */
export type Stage = 'requested' | 'approving' | 'approved' | 'refused' | 'withdrawn' | 'revoked'

/** What people see: of an approved one, how its exemption is. */
export const REQUEST_STATES = [
  'requested',
  'refused',
  'withdrawn',
  'in-force',
  'expiring',
  'expired',
  'revoked',
] as const
export type RequestState = (typeof REQUEST_STATES)[number]

export const REQUEST_EVENTS = ['requested', 'approved', 'refused', 'withdrawn', 'revoked'] as const

export interface RequestEvent {
  readonly event: (typeof REQUEST_EVENTS)[number]
  readonly time: number
  readonly by: string
  readonly reason: string | null
  /** An incident of the host was open, and somebody exempted it all the same. */
  readonly overrode?: readonly string[]
}

export interface ExemptionRequest {
  readonly id: string
  readonly stage: Stage
  /** As it is, or is to be, in force. */
  readonly exemption: ExemptionDocument
  /** How long it is to last from its approval, such as `30d`; null: as the exemption says. */
  readonly lasts: string | null
  readonly events: readonly RequestEvent[]
}

export function requesterOf({ events }: ExemptionRequest): string {
  return events[0]?.by ?? ''
}

/**
 * How a request stands now.
 * @param lead milliseconds before its end from which an exemption counts as expiring
 */
export function stateOf({ stage, exemption }: ExemptionRequest, now: number, lead: number): RequestState {
  switch (stage) {
    case 'approving':
    case 'requested':
      return 'requested'
    case 'refused':
    case 'withdrawn':
    case 'revoked':
      return stage
    case 'approved': {
      const end = exemption.expires === undefined ? null : parseTimestamp(exemption.expires)
      if (end === null) return 'in-force'
      if (end <= now) return 'expired'
      return end - now <= lead ? 'expiring' : 'in-force'
    }
  }
}

/**
 * A wish for an exemption, and what became of it. Pure; times are milliseconds since the epoch.
 *
 *   requested ─► approving ─► approved ─► revoking ─► revoked
 *       ├──────► refused         └─► ended
 *       └──────► withdrawn   (in-force, expiring, expired: what its exemption is)
 */

import { parseTimestamp } from '../policy/formats.ts'
import type { ExemptionDocument } from '../policy/schema.ts'

/**
 * What is decided. `approving`, `revoking`: the last event is about to happen, and whether it has, only what is in force can
 * tell after a crash. `ended`: its time is over, and the exemption is gone from the policies.
 */
export type Stage =
  | 'requested'
  | 'approving'
  | 'approved'
  | 'refused'
  | 'withdrawn'
  | 'revoking'
  | 'revoked'
  | 'ended'

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

export const REQUEST_EVENTS = [
  'requested',
  'approved',
  'refused',
  'withdrawn',
  /** Its exemption was, by somebody who may. */
  'changed',
  'revoked',
] as const

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

/** When its exemption ends; null: never, or not from now on that is known. */
export function endOf({ exemption }: Pick<ExemptionRequest, 'exemption'>): number | null {
  return exemption.expires === undefined ? null : parseTimestamp(exemption.expires)
}

/** What a request has come to when it is not being decided. @param isThere whether its exemption is in force */
export function settled(request: ExemptionRequest, isThere: boolean): ExemptionRequest {
  const { stage, exemption, lasts, events } = request
  const undone = (event: RequestEvent['event']) =>
    events.at(-1)?.event === event ? events.slice(0, -1) : events
  if (stage === 'approving') {
    if (isThere) return { ...request, stage: 'approved' }
    const { expires: _, ...asked } = exemption
    return {
      ...request,
      stage: 'requested',
      exemption: lasts === null ? exemption : asked,
      events: undone('approved'),
    }
  }
  if (stage !== 'revoking') return request
  return isThere
    ? { ...request, stage: 'approved', events: undone('revoked') }
    : { ...request, stage: 'revoked' }
}

/**
 * How a settled request stands now.
 * @param lead milliseconds before its end from which an exemption counts as expiring
 * @param isThere whether its exemption is in force, or would be before its end
 */
export function stateOf(
  request: ExemptionRequest,
  { now, lead, isThere }: { readonly now: number; readonly lead: number; readonly isThere: boolean },
): RequestState {
  switch (request.stage) {
    case 'approving':
    case 'requested':
      return 'requested'
    case 'refused':
    case 'withdrawn':
    case 'revoked':
      return request.stage
    case 'ended':
      return 'expired'
    case 'revoking':
    case 'approved': {
      const end = endOf(request)
      if (end !== null && end <= now) return 'expired'
      if (!isThere) return 'revoked'
      return end !== null && end - now <= lead ? 'expiring' : 'in-force'
    }
  }
}

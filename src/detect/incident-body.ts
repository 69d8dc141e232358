/** An incident as clients and receivers of alerts see it: snake_case, times in RFC 3339. */
import type { Subscriber } from '../subscribers/subscriber.ts'
import type { Evidence, Incident } from './incident.ts'

export interface EvidenceBody extends Omit<Evidence, 'window'> {
  readonly window_seconds: number
}

export interface IncidentBody {
  readonly id: string
  readonly kind: Incident['kind']
  readonly confidence: Incident['confidence']
  readonly state: Incident['state']
  readonly source: string
  /** Of the machine itself, with incidents of their own. */
  readonly user: Incident['user']
  readonly process: Incident['process']
  /** Who was behind the source when it happened; null when nothing tells. */
  readonly subscriber: Subscriber | null
  readonly policy: string | null
  readonly verdict: Incident['verdict']
  readonly first_seen: string
  readonly last_seen: string
  readonly attempts: number
  readonly lost: number
  readonly destinations: number
  readonly top_destinations: Incident['topDestinations']
  readonly evidence: EvidenceBody
  readonly interfaces: Incident['interfaces']
  readonly hardware_addresses: Incident['hardwareAddresses']
  readonly reopened: number
  readonly acknowledged: boolean
  readonly summary: string
}

export function incidentBody(incident: Incident, subscriber: Subscriber | null): IncidentBody {
  const { id, kind, confidence, state, source, policy, verdict, attempts, lost, destinations } = incident
  const { window, ...evidence } = incident.evidence
  return {
    id,
    kind,
    confidence,
    state,
    source,
    user: incident.user,
    process: incident.process,
    subscriber,
    policy,
    verdict,
    first_seen: new Date(incident.firstSeen).toISOString(),
    last_seen: new Date(incident.lastSeen).toISOString(),
    attempts,
    lost,
    destinations,
    top_destinations: incident.topDestinations,
    evidence: { window_seconds: Math.round(window / 1000), ...evidence },
    interfaces: incident.interfaces,
    hardware_addresses: incident.hardwareAddresses,
    reopened: incident.reopened,
    acknowledged: incident.acknowledged,
    summary: incident.summary,
  }
}

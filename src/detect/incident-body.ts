/** An incident as clients and receivers of alerts see it: snake_case, times in RFC 3339. */
import type { Incident } from './incident.ts'

export interface IncidentBody {
  readonly id: string
  readonly kind: Incident['kind']
  readonly confidence: Incident['confidence']
  readonly state: Incident['state']
  readonly source: string
  /** Who is behind the source; null when nothing tells. */
  readonly subscriber: null
  readonly policy: string
  readonly verdict: Incident['verdict']
  readonly first_seen: string
  readonly last_seen: string
  readonly attempts: number
  readonly destinations: number
  readonly top_destinations: Incident['topDestinations']
  readonly acknowledged: boolean
  readonly summary: string
}

export function incidentBody(incident: Incident): IncidentBody {
  const { id, kind, confidence, state, source, policy, verdict, attempts, destinations } = incident
  return {
    id,
    kind,
    confidence,
    state,
    source,
    subscriber: null,
    policy,
    verdict,
    first_seen: new Date(incident.firstSeen).toISOString(),
    last_seen: new Date(incident.lastSeen).toISOString(),
    attempts,
    destinations,
    top_destinations: incident.topDestinations,
    acknowledged: incident.acknowledged,
    summary: incident.summary,
  }
}

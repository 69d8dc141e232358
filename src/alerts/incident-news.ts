/** What happens to an incident, as news. Pure. */
import type { Incident } from '../detect/incident.ts'
import { incidentBody } from '../detect/incident-body.ts'
import type { Subscriber } from '../subscribers/subscriber.ts'
import type { IncidentNews } from './message.ts'
import { type Escalation, incidentSeverity } from './planning/severity.ts'

export interface IncidentContext {
  readonly gateway: string
  readonly network: string | null
  readonly subscriber: Subscriber | null
  /** Which incident of the machine it is. */
  readonly occurrence: number
  readonly escalation: Escalation
}

/** `time` in milliseconds since the epoch. */
export function incidentNews(
  event: IncidentNews['event'],
  incident: Incident,
  time: number,
  { gateway, network, subscriber, occurrence, escalation }: IncidentContext,
): IncidentNews {
  return {
    event,
    gateway,
    time: new Date(time).toISOString(),
    severity: incidentSeverity(incident, occurrence, escalation),
    incident: incidentBody(incident, subscriber),
    network,
    occurrence,
  }
}

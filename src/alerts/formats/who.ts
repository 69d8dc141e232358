/** Who is behind an incident, as it was known when it happened. */
import type { IncidentBody } from '../../detect/incident-body.ts'

/** What is said of whoever is behind a source. */
export interface Who {
  readonly name: string | null
  readonly account: string | null
  readonly contact: string | null
  readonly mac: string | null
}

export function whoIs({ subscriber }: IncidentBody): Who | null {
  return subscriber
}

/** What to call whoever is behind the source; null when nobody knows. */
export function subscriberName(incident: IncidentBody): string | null {
  const who = whoIs(incident)
  return who === null ? null : (who.name ?? who.account ?? who.mac)
}

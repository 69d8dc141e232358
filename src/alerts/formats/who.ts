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

/** The user of a machine who has an incident of their own, by name or number; null: it is the machine's. */
export function localUser({ user }: Partial<Pick<IncidentBody, 'user'>>): string | null {
  // What an earlier release left in the queue knows of no users.
  return user === null || user === undefined ? null : (user.name ?? String(user.uid))
}

/** The program that was seen making one of the user's attempts; null: nobody saw. */
export function programOf({ process }: Partial<Pick<IncidentBody, 'process'>>): string | null {
  if (process === null || process === undefined) return null
  return process.path === null ? process.name : `${process.name} (${process.path})`
}

/** What to call whoever is behind the source; null when nobody knows. */
export function subscriberName(incident: IncidentBody): string | null {
  const who = whoIs(incident)
  return who === null ? null : (who.name ?? who.account ?? who.mac)
}

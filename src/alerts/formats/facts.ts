/** What is known in a message, as short facts under names: for cards, tables and structured data. */
import type { IncidentBody } from '../../detect/incident-body.ts'
import type { Body } from '../message.ts'

export interface Fact {
  /** For programs: lower case, digits and underscores. */
  readonly name: string
  readonly label: string
  readonly value: string
}

/** What matters most first. */
export function factsOf(body: Body): Fact[] {
  return [...particularFacts(body), fact('gateway', 'Gateway', body.gateway)]
}

function particularFacts(body: Body): Fact[] {
  switch (body.event) {
    case 'opened':
    case 'updated':
    case 'resolved':
    case 'reminder':
      return incidentFacts(body.incident, body.occurrence)
    case 'exemption-lapses':
    case 'exemption-lapsed':
    case 'exemption-revoked': {
      const { name, expires, owner, ticket, sources, more_sources } = body.exemption
      const others = more_sources === undefined ? '' : ` and ${more_sources} more`
      return [
        fact('exemption', 'Exemption', name),
        ...optional('expires', 'Ends', expires),
        ...optional('owner', 'Owner', owner),
        ...optional('ticket', 'Ticket', ticket),
        fact('sources', 'Machines', `${sources.slice(0, 10).join(', ')}${others}`),
      ]
    }
    case 'table-contested':
    case 'table-uncontested':
      return body.by === null
        ? []
        : [fact('program', 'Program', `${body.by.program} (process ${body.by.pid})`)]
    case 'preflight-appeared':
    case 'preflight-gone':
      return [fact('code', 'Finding', body.preflight.code)]
    case 'digest': {
      const { machines, attempts, news, by_kind, since, until } = body.digest
      const kinds = Object.entries(by_kind).map(([kind, count]) => `${kind} ${count}`)
      return [
        fact('machines', 'Machines', String(machines)),
        fact('attempts', 'Attempts', String(attempts)),
        ...optional('kinds', 'Kinds', kinds.join(', ') || null),
        fact('news', 'News', String(news)),
        fact('since', 'Since', since),
        fact('until', 'Until', until),
      ]
    }
    case 'test':
      return []
    default:
      return body satisfies never
  }
}

function incidentFacts(incident: IncidentBody, occurrence: number): Fact[] {
  const { id, kind, confidence, state, source, policy, verdict, attempts, destinations } = incident
  return [
    fact('source', 'Machine', source),
    ...optional('subscriber', 'Subscriber', subscriberName(incident)),
    fact('kind', 'Kind', kind),
    fact('confidence', 'Confidence', confidence),
    fact('attempts', 'Attempts', String(attempts)),
    fact('destinations', 'Mail servers tried', String(destinations)),
    fact('first_seen', 'First seen', incident.first_seen),
    fact('last_seen', 'Last seen', incident.last_seen),
    ...optional('policy', 'Policy', policy),
    fact('verdict', 'Verdict', verdict),
    fact('occurrence', 'Occurrence', String(occurrence)),
    fact('state', 'State', state),
    fact('incident', 'Incident', id),
  ]
}

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

function fact(name: string, label: string, value: string): Fact {
  return { name, label, value }
}

function optional(name: string, label: string, value: string | null): Fact[] {
  return value === null ? [] : [fact(name, label, value)]
}

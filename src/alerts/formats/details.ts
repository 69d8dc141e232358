/** What is known in a message, in short, under names: for cards, tables and structured data. */
import type { IncidentBody } from '../../detect/incident-body.ts'
import type { Body } from '../message.ts'
import { localUser, programOf, subscriberName } from './who.ts'

export interface Detail {
  /** For programs: lower case, digits and underscores. */
  readonly name: string
  readonly label: string
  readonly value: string
}

/** What matters most first. */
export function detailsOf(body: Body): Detail[] {
  return [...particularDetails(body), detail('gateway', 'Gateway', body.gateway)]
}

function particularDetails(body: Body): Detail[] {
  switch (body.event) {
    case 'opened':
    case 'updated':
    case 'resolved':
    case 'reminder':
      return incidentDetails(body.incident, body.occurrence)
    case 'exemption-lapses':
    case 'exemption-lapsed':
    case 'exemption-revoked': {
      const { name, expires, owner, ticket, sources, more_sources } = body.exemption
      const others = more_sources === undefined ? '' : ` and ${more_sources} more`
      return [
        detail('exemption', 'Exemption', name),
        ...optional('expires', 'Ends', expires),
        ...optional('owner', 'Owner', owner),
        ...optional('ticket', 'Ticket', ticket),
        detail('sources', 'Machines', `${sources.slice(0, 10).join(', ')}${others}`),
      ]
    }
    case 'table-contested':
    case 'table-uncontested':
      return body.by === null
        ? []
        : [detail('program', 'Program', `${body.by.program} (process ${body.by.pid})`)]
    case 'preflight-appeared':
    case 'preflight-gone':
      return [detail('code', 'Finding', body.preflight.code)]
    case 'digest': {
      const { machines, attempts, news, by_kind, since, until } = body.digest
      const kinds = Object.entries(by_kind).map(([kind, count]) => `${kind} ${count}`)
      return [
        detail('machines', 'Machines', String(machines)),
        detail('attempts', 'Attempts', String(attempts)),
        ...optional('kinds', 'Kinds', kinds.join(', ') || null),
        detail('news', 'News', String(news)),
        detail('since', 'Since', since),
        detail('until', 'Until', until),
      ]
    }
    case 'test':
      return []
    default:
      return body satisfies never
  }
}

function incidentDetails(incident: IncidentBody, occurrence: number): Detail[] {
  const { id, kind, confidence, state, source, policy, verdict, attempts, destinations } = incident
  return [
    detail('source', 'Machine', source),
    ...optional('user', 'User', localUser(incident)),
    ...optional('program', 'Program', programOf(incident)),
    ...optional('subscriber', 'Subscriber', subscriberName(incident)),
    detail('kind', 'Kind', kind),
    detail('confidence', 'Confidence', confidence),
    detail('attempts', 'Attempts', String(attempts)),
    detail('destinations', 'Mail servers tried', String(destinations)),
    detail('first_seen', 'First seen', incident.first_seen),
    detail('last_seen', 'Last seen', incident.last_seen),
    ...optional('policy', 'Policy', policy),
    detail('verdict', 'Verdict', verdict),
    detail('occurrence', 'Occurrence', String(occurrence)),
    detail('state', 'State', state),
    detail('incident', 'Incident', id),
  ]
}

function detail(name: string, label: string, value: string): Detail {
  return { name, label, value }
}

function optional(name: string, label: string, value: string | null): Detail[] {
  return value === null ? [] : [detail(name, label, value)]
}

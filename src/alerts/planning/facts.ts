/** What the way of news depends on, apart from its text: kept in memory for all news that waits. */
import type { IncidentKind } from '../../detect/incident.ts'
import { contains, type Prefix, parsePrefix } from '../../policy/prefix.ts'
import type { Severity, SingleNews, Topic } from '../message.ts'
import type { Routing } from './handling.ts'
import { isAtLeast } from './severity.ts'

export interface Facts {
  readonly about: Topic
  readonly event: SingleNews['event']
  readonly severity: Severity
  /** The incident that it is about; null: it is about none, and so are the rest. */
  readonly incident: IncidentFacts | null
}

export interface IncidentFacts {
  readonly id: string
  readonly kind: IncidentKind
  readonly policy: string | null
  /** The network of the policy that the machine is in, or, where nobody knows, the policy's name. */
  readonly network: string
  readonly source: Prefix
  readonly machine: string
  readonly attempts: number
  /** Milliseconds since the epoch. */
  readonly firstSeen: number
}

export function factsOf(news: SingleNews): Facts {
  const { event, severity } = news
  if (!('occurrence' in news)) return { about: topicOf(news), event, severity, incident: null }
  const { id, kind, policy, source, attempts, first_seen } = news.incident
  return {
    about: 'incident',
    event,
    severity,
    incident: {
      id,
      kind,
      policy,
      network: news.network ?? policy ?? source,
      source: prefixOf(source),
      machine: source,
      attempts,
      firstSeen: Date.parse(first_seen),
    },
  }
}

export function topicOf(news: SingleNews): Topic {
  if ('occurrence' in news) return 'incident'
  if ('exemption' in news) return 'exemption'
  return 'preflight' in news ? 'preflight' : 'drift'
}

/** Whether a channel is to hear of it. */
export function isWanted(
  { about, severity, incident }: Facts,
  { minSeverity, about: topics, kinds, policies, networks }: Routing,
): boolean {
  if (!isAtLeast(severity, minSeverity)) return false
  if (topics.length > 0 && !topics.includes(about)) return false
  return incident === null || concerns(incident, { kinds, policies, networks })
}

/** Of which incidents something holds; an empty list: of all. */
export interface Concern {
  readonly kinds: readonly IncidentKind[]
  readonly policies: readonly string[]
  readonly networks: readonly Prefix[]
}

export function concerns(
  { kind, policy, source }: IncidentFacts,
  { kinds, policies, networks }: Concern,
): boolean {
  return (
    (kinds.length === 0 || kinds.includes(kind)) &&
    (policies.length === 0 || (policy !== null && policies.includes(policy))) &&
    (networks.length === 0 || networks.some((network) => contains(network, source)))
  )
}

/** A source was written by us; were it ever not, no network would contain it. */
function prefixOf(source: string): Prefix {
  const prefix = parsePrefix(source)
  return typeof prefix === 'string' ? { family: 4, address: 0, length: 0 } : prefix
}

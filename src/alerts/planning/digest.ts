/** Much news in one message: how much, where, and the worst of it. Pure. */

import type { DigestNews, HeldBecause, IncidentNews, SingleNews } from '../message.ts'
import { SEVERITIES } from '../message.ts'
import type { IncidentFacts } from './facts.ts'
import type { Waiting } from './planner.ts'
import { worstOf } from './severity.ts'

const MOST_NETWORKS = 10
const MOST_NAMED = 10

export interface DigestContext {
  readonly gateway: string
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly because: readonly HeldBecause[]
  readonly dropped: number
  /** Reads whole news by its id: of a few of them only. */
  readonly read: (id: number) => SingleNews
}

export function digestOf(news: readonly Waiting[], context: DigestContext): DigestNews {
  const { gateway, now, because, dropped, read } = context
  const latest = latestOfEach(news)
  const incidents = [...latest.values()].map(({ facts }) => facts.incident as IncidentFacts)
  const machines = new Map(incidents.map((incident) => [incident.machine, incident]))
  const worst = [...latest.values()].sort(byBadness).slice(0, MOST_NAMED)
  const others = news.filter(({ facts }) => facts.incident === null).slice(0, MOST_NAMED)
  return {
    event: 'digest',
    gateway,
    time: new Date(now).toISOString(),
    severity: worstOf(news.map(({ facts }) => facts.severity)),
    digest: {
      because,
      since: new Date(news[0]?.time ?? now).toISOString(),
      until: new Date(news.at(-1)?.time ?? now).toISOString(),
      news: news.length,
      machines: machines.size,
      attempts: incidents.reduce((sum, { attempts }) => sum + attempts, 0),
      by_event: countBy(news, ({ facts }) => facts.event),
      by_kind: countBy([...machines.values()], ({ kind }) => kind),
      by_network: Object.entries(countBy([...machines.values()], ({ network }) => network))
        .sort(([, a], [, b]) => b - a)
        .slice(0, MOST_NETWORKS)
        .map(([network, count]) => ({ network, machines: count })),
      worst: worst.map(({ id }) => (read(id) as IncidentNews).incident),
      others: others.map(({ id }) => read(id) as Exclude<SingleNews, IncidentNews>),
      dropped,
    },
  }
}

/** Of each incident what was said last. */
function latestOfEach(news: readonly Waiting[]): Map<string, Waiting> {
  const latest = new Map<string, Waiting>()
  for (const one of news) if (one.facts.incident !== null) latest.set(one.facts.incident.id, one)
  return latest
}

function byBadness({ facts: a }: Waiting, { facts: b }: Waiting): number {
  const bySeverity = SEVERITIES.indexOf(b.severity) - SEVERITIES.indexOf(a.severity)
  return bySeverity || (b.incident?.attempts ?? 0) - (a.incident?.attempts ?? 0)
}

function countBy<T, K extends string>(items: readonly T[], keyOf: (item: T) => K): Record<K, number> {
  const counts = new Map<K, number>()
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1)
  return Object.fromEntries(counts) as Record<K, number>
}

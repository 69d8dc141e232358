/** Before enforcing: who would be blocked, and what they look like. Gathers the evidence; `report/` judges it. */

import { verdictOf } from '../policy/decide.ts'
import type { Policy } from '../policy/model.ts'
import { addressBits, type Prefix, parseAddress, parsePrefix } from '../policy/prefix.ts'
import type { SenderEvidence } from '../report/evidence.ts'
import { evidenceBody, type ReportBody, type ReportItem } from '../report/report-body.ts'
import { rhythmOf } from '../report/rhythm.ts'
import { sortSender } from '../report/sort-sender.ts'
import type { AttemptLog } from '../store/attempts.ts'
import type { Machine, Span } from '../store/attempts-query.ts'
import type { EvidenceStore } from '../store/evidence.ts'
import type { IncidentStore } from '../store/incidents.ts'
import type { Subscribers } from '../subscribers/subscribers.ts'
import type { Controller } from './controller.ts'
import type { NameLookup } from './names.ts'
import type { EvidenceWatch } from './watching/evidence-watch.ts'

export interface ReporterOptions {
  readonly controller: Pick<Controller, 'inForce'>
  readonly log: AttemptLog
  readonly watch: Pick<EvidenceWatch, 'look'>
  readonly evidence: EvidenceStore
  readonly incidents: Pick<IncidentStore, 'idsOf' | 'get'>
  readonly subscribers: Pick<Subscribers, 'find'>
  /** null: no resolver is configured. */
  readonly resolver: { readonly server: string; readonly lookUp: NameLookup } | null
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** Of each policy those with the most attempts. */
const MOST_MACHINES = 1_000
const MOST_DESTINATIONS = 1_000
const MOST_INCIDENTS = 20
/** Names looked up in one report, and at once. */
const MOST_NAMES = 500
const NAMES_AT_ONCE = 20
const HOUR = 3_600_000
/** Bytes before the data: IP and TCP headers, with the timestamps that everybody uses (RFC 7323). */
const HEADERS = { 4: 52, 6: 72 } as const

export interface Reporter {
  /** The series is by hours, the ranking by what fits its length. @throws HistoryUnavailableError */
  report(ranking: Span, hours: Span): Promise<ReportBody>
}

export function openReporter(options: ReporterOptions): Reporter {
  return {
    async report(ranking, hours) {
      const { controller, log, watch, resolver, now } = options
      await watch.look()
      const observed = (controller.inForce?.model.policies ?? []).filter(isObserved)
      const found = observed.map(({ name }) =>
        log.top({ ...ranking, allowed: false, policy: name, limit: MOST_MACHINES + 1, offset: 0 }),
      )
      const machines = found
        .flatMap((some) => some.slice(0, MOST_MACHINES))
        .filter(({ verdict }) => verdict === 'observe')
      const names = await namesOf(machines, options)
      const items = machines.flatMap((machine): ReportItem[] => {
        const prefix = parsePrefix(machine.source)
        if (typeof prefix === 'string' || machine.policy === null) return []
        const evidence = gather(machine, prefix, hours, names.get(machine.source) ?? null, options)
        return [
          {
            source: machine.source,
            policy: machine.policy,
            ...sortSender(evidence),
            subscriber: options.subscribers.find(prefix, Math.min(machine.lastSeen, now()), null),
            evidence: evidenceBody(evidence, machine.firstSeen, machine.lastSeen),
          },
        ]
      })
      return {
        from: new Date(ranking.from).toISOString(),
        to: new Date(ranking.to).toISOString(),
        policies: observed.map(({ name }) => name),
        resolver: resolver?.server ?? null,
        items,
        truncated: found.some((some) => some.length > MOST_MACHINES),
      }
    },
  }
}

function isObserved(policy: Policy): boolean {
  return verdictOf(policy, null) === 'observe'
}

function gather(
  machine: Machine,
  { family }: Prefix,
  hours: Span,
  name: SenderEvidence['name'],
  { log, evidence, incidents }: ReporterOptions,
): SenderEvidence {
  const { source, attempts, firstSeen, lastSeen } = machine
  const destinations = log.topDestinations(source, hours, MOST_DESTINATIONS)
  const told = destinations.reduce((sum, one) => sum + one.attempts, 0)
  // Names are written at the end of their minute.
  const [tries, servers] = told === 0 ? [attempts, machine.destinations] : [told, destinations.length]
  const sums = evidence.of(source, hours.from)
  const data = (what: string) => {
    const { packets, bytes } = sums.get(what) ?? { packets: 0, bytes: 0 }
    return { segments: packets, payload: Math.max(0, bytes - packets * HEADERS[family]) }
  }
  return {
    attempts,
    destinations: Math.max(destinations.length, machine.destinations),
    topShare: told === 0 ? 0 : (destinations[0]?.attempts ?? 0) / told,
    destinationsInMinute: machine.destinations,
    triesPerServer: tries / Math.max(1, servers),
    ...rhythmOf(log.series({ source }, hours)),
    spanHours: Math.max(1, Math.ceil((lastSeen - Math.max(firstSeen, hours.from)) / HOUR)),
    closed: sums.get('closed')?.packets ?? 0,
    ...data('sent'),
    received: data('received'),
    name,
    incidents: [
      ...new Set(incidents.idsOf(source, MOST_INCIDENTS).flatMap((id) => incidents.get(id)?.kind ?? [])),
    ],
  }
}

/** By machine; of an IPv6 prefix, the address that was seen last. */
async function namesOf(
  machines: readonly Machine[],
  { resolver, log }: ReporterOptions,
): Promise<Map<string, SenderEvidence['name']>> {
  const names = new Map<string, SenderEvidence['name']>()
  if (resolver === null) return names
  const queue = machines.slice(0, MOST_NAMES).values()
  const lane = async () => {
    for (const { source } of queue) {
      const prefix = parsePrefix(source)
      if (typeof prefix === 'string') continue
      const single = prefix.length === addressBits(prefix.family)
      const last = single ? source : log.recent({ source: prefix, limit: 1 })[0]?.source
      const address = last === undefined ? null : parseAddress(last)
      if (address !== null) names.set(source, await resolver.lookUp(address))
    }
  }
  await Promise.all(Array.from({ length: NAMES_AT_ONCE }, lane))
  return names
}

/** What the detector makes of the corpus, held against the labels. */
import { Detector } from '../../src/detect/detector.ts'
import type { IncidentKind } from '../../src/detect/incident.ts'
import { DEFAULT_THRESHOLDS, type Thresholds } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import type { Attempt } from '../../src/watch/attempt.ts'
import { corpus } from './generate.ts'
import { CLASSES, type Connection, type CorpusOptions, type HostClass, type LabelledHost } from './types.ts'

/** What may be said of a host of each class; null: nothing. The first is the right word, the others do no harm. */
export const RIGHT: Readonly<Record<HostClass, readonly (IncidentKind | null)[]>> = {
  'bursty-bot': ['spam-bot'],
  'slow-bot': ['spam-bot'],
  'few-target-bot': ['spam-bot'],
  'rotating-bot': ['spam-bot'],
  scanner: ['scanner'],
  'mail-client': ['misconfigured-client', null],
  printer: ['misconfigured-client', null],
  'monitoring-probe': ['misconfigured-client', null],
  'mail-server': ['misconfigured-client', null],
  'newsletter-host': [null],
  'broken-in-host': ['exempt-host-anomaly'],
  'small-mail-server': ['misconfigured-client', null],
  'office-with-bot': ['spam-bot'],
  'web-server-bot': ['spam-bot'],
  'refused-bot': ['spam-bot'],
  program: ['misconfigured-client', null],
  'tried-once': [null],
}

export interface Judged {
  readonly label: HostClass
  /** At the end, or before it was resolved; null: nothing was said. */
  readonly kind: IncidentKind | null
  /** Milliseconds from the first connection of its misbehaviour until the right word was said; null: it never was. */
  readonly after: number | null
}

export interface Score {
  readonly label: HostClass
  readonly hosts: number
  /** Of whom the right word was said, or nothing where nothing is right. */
  readonly right: number
  /** How many were called what. */
  readonly called: ReadonlyMap<IncidentKind | null, number>
  /** Milliseconds: the median and the 90th percentile of those of whom the right word was said. */
  readonly median: number | null
  readonly p90: number | null
}

/** Judges each host by itself: they do not influence each other. */
export function* judgeCorpus(
  options: CorpusOptions,
  thresholds: Thresholds = DEFAULT_THRESHOLDS,
): Generator<Judged> {
  for (const host of corpus(options)) yield judgeHost(host, thresholds)
}

export function judgeHost(host: LabelledHost, thresholds: Thresholds = DEFAULT_THRESHOLDS): Judged {
  let ids = 0
  const detector = new Detector({ thresholds: () => thresholds, newId: () => `i${++ids}` })
  const [right] = RIGHT[host.label]
  let kind: IncidentKind | null = null
  let after: number | null = null
  let ticked = 0
  let began: number | null = null
  for (const connection of host.connections) {
    if (host.since !== null && connection.time >= host.since) began ??= connection.time
    if (connection.time - ticked >= 60_000) {
      detector.tick(connection.time)
      ticked = connection.time
    }
    for (const { event, incident, time } of attemptsOf(host, connection).flatMap((one) =>
      detector.observe(one),
    )) {
      if (event === 'resolved') continue
      // The worst that was said counts: a word of an abuse desk cannot be taken back.
      if (kind === null || gravity(incident.kind) >= gravity(kind)) kind = incident.kind
      if (incident.kind === right && after === null) after = time - (began ?? time)
    }
  }
  return { label: host.label, kind, after }
}

function gravity(kind: IncidentKind): number {
  return ['misconfigured-client', 'exempt-host-anomaly', 'spam-bot', 'scanner', 'flood'].indexOf(kind)
}

function attemptsOf({ exempt }: LabelledHost, connection: Connection): Attempt[] {
  const { time, sourcePort, retransmissions } = connection
  const attempt: Attempt = {
    time,
    source: address(connection.source),
    sourcePort,
    destination: address(connection.destination),
    policy: exempt ? null : 'corpus',
    verdict: exempt ? 'allow' : 'block',
    because: exempt ? 'exemption' : null,
    interface: null,
    uid: null,
    mac: null,
  }
  return [attempt, ...retransmissions.map((later) => ({ ...attempt, time: time + later }))]
}

function address(text: string): Prefix {
  const parsed = parseAddress(text)
  if (parsed === null) throw new Error(`the corpus made ${text}, which is no address`)
  return parsed
}

export function scores(judged: Iterable<Judged>): Score[] {
  const all = [...judged]
  return CLASSES.map((label) => {
    const ours = all.filter((one) => one.label === label)
    const called = new Map<IncidentKind | null, number>()
    for (const { kind } of ours) called.set(kind, (called.get(kind) ?? 0) + 1)
    const times = ours.flatMap(({ after }) => (after === null ? [] : [after])).sort((a, b) => a - b)
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? null
    return {
      label,
      hosts: ours.length,
      right: ours.filter(({ kind }) => RIGHT[label].includes(kind)).length,
      called,
      median: at(0.5),
      p90: at(0.9),
    }
  })
}

export interface KindScore {
  readonly kind: IncidentKind
  /** Of the hosts that were called so, how many are. */
  readonly precision: number
  /** Of the hosts that are, how many were called so. */
  readonly recall: number
}

/** Retransmissions and the like are left out: a host counts once. */
export function kindScores(all: readonly Score[]): KindScore[] {
  const kinds = ['spam-bot', 'scanner', 'misconfigured-client', 'exempt-host-anomaly'] as const
  return kinds.map((kind) => {
    const called = all.reduce((sum, score) => sum + (score.called.get(kind) ?? 0), 0)
    const rightly = all.reduce(
      (sum, { label, called: by }) => sum + (RIGHT[label].includes(kind) ? (by.get(kind) ?? 0) : 0),
      0,
    )
    const are = all.filter(({ label }) => RIGHT[label][0] === kind)
    const found = are.reduce((sum, { called: by }) => sum + (by.get(kind) ?? 0), 0)
    const hosts = are.reduce((sum, one) => sum + one.hosts, 0)
    return { kind, precision: called === 0 ? 1 : rightly / called, recall: hosts === 0 ? 1 : found / hosts }
  })
}

/** Relays and exempt hosts, each held against its own past. */
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Case } from './case.ts'
import type { CaseBook } from './case-book.ts'
import { type Baseline, ExemptHost } from './exempt-host.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { Tally } from './tally.ts'

interface Watched {
  readonly host: ExemptHost
  /** Of the incident; of no use without one. */
  tally: Tally
  /** The policy that would govern it. */
  policy: string | null
  thresholds: Thresholds
  open: Case | null
}

/** Hosts that are watched; of more, the one that was quiet longest is forgotten, with its baseline. */
const MOST_HOSTS = 16_384

export class ExemptHosts {
  readonly #book: CaseBook
  readonly #baselines = new Map<string, Baseline>()
  /** In order of their latest attempts, the quietest first. */
  readonly #hosts = new Map<string, Watched>()

  constructor(book: CaseBook) {
    this.#book = book
  }

  observe(
    attempt: Attempt,
    source: string,
    { policy, thresholds }: Pick<Watched, 'policy' | 'thresholds'>,
  ): IncidentEvent[] {
    const { time } = attempt
    const watched = this.#watched(source, policy, thresholds, time)
    if (watched.open === null && time - watched.tally.lastSeen > thresholds.resolveAfter) {
      watched.tally = new Tally(time)
    }
    watched.tally.add(attempt, time)
    watched.host.add(attempt.destination.address, time)
    return this.#judge(watched, time)
  }

  /** The kernel has counted so many attempts more of a host. */
  counted(
    source: string,
    attempts: number,
    time: number,
    { policy, thresholds }: Pick<Watched, 'policy' | 'thresholds'>,
  ): IncidentEvent[] {
    const watched = this.#watched(source, policy, thresholds, time)
    watched.host.counted(attempts, time)
    return this.#judge(watched, time)
  }

  /** What each host usually does, to outlive a restart. */
  baselines(): Baseline[] {
    return [...this.#hosts.values()].map(({ host }) => host.baseline())
  }

  /** Takes up what an earlier run learned. */
  know(baselines: readonly Baseline[]): void {
    for (const baseline of baselines.slice(0, MOST_HOSTS)) this.#baselines.set(baseline.source, baseline)
  }

  resume(incident: Incident, thresholds: Thresholds): void {
    const { source, policy, lastSeen } = incident
    const watched = this.#watched(source, policy, thresholds, lastSeen)
    watched.open = this.#book.resume(incident, {
      tally: watched.tally,
      thresholds,
      onClosed: (by) => closed(watched, by),
    })
  }

  #judge(watched: Watched, now: number): IncidentEvent[] {
    const { host, policy, thresholds, open, tally } = watched
    const judgement = host.judge(thresholds, now)
    if (open !== null) {
      // It is over when the host does what it always does, and not only when it does nothing.
      if (judgement === null) return []
      open.lastSeen = Math.max(open.lastSeen, now)
      this.#book.grew(open)
      return open.judge(judgement) ? [{ event: 'updated', time: now, incident: open.snapshot() }] : []
    }
    if (judgement === null) return []
    const opened = this.#book.open(
      {
        source: host.source,
        policy,
        verdict: 'allow',
        thresholds,
        judgement,
        tally,
        onClosed: (by) => closed(watched, by),
      },
      now,
    )
    watched.open = opened.one
    return [opened.event]
  }

  #watched(source: string, policy: string | null, thresholds: Thresholds, now: number): Watched {
    const known = this.#hosts.get(source)
    const watched = known ?? {
      host: new ExemptHost(source, now, this.#baselines.get(source) ?? null),
      tally: new Tally(now),
      policy,
      thresholds,
      open: null,
    }
    watched.policy = policy
    watched.thresholds = thresholds
    this.#hosts.delete(source)
    this.#hosts.set(source, watched)
    this.#baselines.delete(source)
    if (this.#hosts.size > MOST_HOSTS) {
      for (const [quietest, { open }] of this.#hosts) {
        if (open !== null) continue
        this.#hosts.delete(quietest)
        break
      }
    }
    return watched
  }
}

function closed(watched: Watched, by: 'quiet' | 'person'): void {
  watched.open = null
  watched.tally = new Tally(watched.tally.lastSeen)
  if (by === 'person') watched.host.accept()
}

/** Floods from forged addresses, one incident at most for each policy. */
import { isDeepStrictEqual } from 'node:util'
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Case } from './case.ts'
import type { CaseBook } from './case-book.ts'
import { FloodWatch } from './flood.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { Tally } from './tally.ts'

interface Watched {
  readonly policy: string
  thresholds: Thresholds
  watch: FloodWatch
  tally: Tally
  open: Case | null
}

/** What a flood is known by: no address can be written so. */
export function floodSource(policy: string): string {
  return `policy:${policy}`
}

export class Floods {
  readonly #book: CaseBook
  readonly #policies = new Map<string, Watched>()

  constructor(book: CaseBook) {
    this.#book = book
  }

  watchOf(policy: string, thresholds: Thresholds): FloodWatch {
    return this.#watched(policy, thresholds, 0).watch
  }

  /** After the machine's own judgement; tells what the attempt means for its policy. */
  observe(attempt: Attempt, policy: string, thresholds: Thresholds): IncidentEvent[] {
    const watched = this.#watched(policy, thresholds, attempt.time)
    const { watch } = watched
    if (watched.tally.told === 0) watched.tally = new Tally(attempt.time)
    // What came since all was calm is a part of it.
    watched.tally.add(attempt, attempt.time)
    if (!watch.isSuspected) return []
    const judgement = watch.judge()
    const { open } = watched
    if (open !== null) {
      if (!watch.isActive) return []
      open.lastSeen = Math.max(open.lastSeen, attempt.time)
      open.lost = watch.lost
      this.#book.grew(open)
      return open.judge(judgement)
        ? [{ event: 'updated', time: attempt.time, incident: open.snapshot() }]
        : []
    }
    if (judgement === null) return []
    const opened = this.#book.open(
      {
        source: floodSource(policy),
        policy,
        verdict: attempt.verdict,
        thresholds,
        judgement,
        tally: watched.tally,
        lost: watch.lost,
        onClosed: () => {
          watched.open = null
          watched.tally = new Tally(attempt.time)
        },
      },
      attempt.time,
    )
    watched.open = opened.one
    return [opened.event]
  }

  /** The kernel's count of all attempts of a policy, which only grows; from the start, to know what was lost later. */
  counted(policy: string, attempts: number, thresholds: Thresholds): void {
    const { watch, open } = this.#watched(policy, thresholds, 0)
    watch.counted(attempts)
    if (open !== null && watch.isActive) open.lost = watch.lost
  }

  tick(now: number): void {
    for (const watched of this.#policies.values()) {
      const { watch, open } = watched
      watch.tick(now, open !== null)
      if (!watch.isSuspected && open === null) watched.tally = new Tally(now)
    }
  }

  resume(incident: Incident, thresholds: Thresholds): void {
    const policy = incident.policy ?? ''
    const watched = this.#watched(policy, thresholds, incident.lastSeen)
    const { tally } = watched
    const onClosed = () => {
      watched.open = null
    }
    watched.open = this.#book.resume(incident, { tally, thresholds, onClosed })
  }

  #watched(policy: string, thresholds: Thresholds, time: number): Watched {
    let watched = this.#policies.get(policy)
    if (watched === undefined) {
      watched = {
        policy,
        thresholds,
        watch: new FloodWatch(thresholds),
        tally: new Tally(time),
        open: null,
      }
      this.#policies.set(policy, watched)
    }
    if (watched.thresholds !== thresholds) {
      if (!isDeepStrictEqual(watched.thresholds.flood, thresholds.flood))
        watched.watch = new FloodWatch(thresholds)
      watched.thresholds = thresholds
    }
    return watched
  }
}

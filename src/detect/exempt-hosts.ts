/**
 * Relays and exempt hosts, each held against its own past. Of what this machine itself sends the kernel tells the user: each
 * is held against a past of their own. What is counted of their address and was told of nobody is the address's, unless it
 * has one user only.
 */
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Case } from './case.ts'
import type { CaseBook } from './case-book.ts'
import { type Baseline, ExemptHost, STEP } from './exempt-host.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { machineKey } from './machine-key.ts'
import { Tally } from './tally.ts'
import { ToldOfUsers } from './told-of-users.ts'

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
/** Addresses of this machine; whoever may forge some may make up more. */
const MOST_ADDRESSES = 1_024

/** What is known of the users of an address. */
interface Address {
  readonly told: ToldOfUsers
  /** Users who have an open incident. */
  readonly open: Set<Watched>
}

export class ExemptHosts {
  readonly #book: CaseBook
  readonly #baselines = new Map<string, Baseline>()
  /** In order of their latest attempts, the quietest first. */
  readonly #hosts = new Map<string, Watched>()
  /** Those from which local users send, the latest behind. */
  readonly #addresses = new Map<string, Address>()

  constructor(book: CaseBook) {
    this.#book = book
  }

  observe(
    attempt: Attempt,
    source: string,
    { policy, thresholds }: Pick<Watched, 'policy' | 'thresholds'>,
  ): IncidentEvent[] {
    const { time, uid } = attempt
    const watched = this.#watched(source, uid, policy, thresholds, time)
    if (uid !== null) this.#addressOf(source).told.add(uid, time)
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
    const address = this.#addresses.get(source)
    if (address === undefined) {
      const watched = this.#watched(source, null, policy, thresholds, time)
      watched.host.counted(attempts, time)
      return this.#judge(watched, time)
    }
    const { uid, untold } = address.told.counted(attempts, time)
    if (untold === 0) return []
    const watched = this.#watched(source, uid, policy, thresholds, time)
    watched.host.lost(untold, time)
    // Most likely it is of the one who is known already.
    return uid === null && address.open.size > 0 ? [] : this.#judge(watched, time)
  }

  /** What each host usually does, to outlive a restart. */
  baselines(): Baseline[] {
    return [...this.#hosts.values()].map(({ host }) => host.baseline())
  }

  /** Takes up what an earlier run learned. */
  know(baselines: readonly Baseline[]): void {
    for (const baseline of baselines.slice(0, MOST_HOSTS))
      this.#baselines.set(machineKey(baseline.source, baseline.uid), baseline)
  }

  resume(incident: Incident, thresholds: Thresholds): void {
    const { source, user, policy, lastSeen } = incident
    const watched = this.#watched(source, user?.uid ?? null, policy, thresholds, lastSeen)
    watched.open = this.#book.resume(incident, {
      tally: watched.tally,
      thresholds,
      onClosed: (by) => this.#closed(watched, by),
    })
    this.#opened(watched)
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
        uid: host.uid,
        policy,
        verdict: 'allow',
        thresholds,
        judgement,
        tally,
        onClosed: (by) => this.#closed(watched, by),
      },
      now,
    )
    watched.open = opened.one
    this.#opened(watched)
    return [opened.event]
  }

  #watched(
    source: string,
    uid: number | null,
    policy: string | null,
    thresholds: Thresholds,
    now: number,
  ): Watched {
    const key = machineKey(source, uid)
    const known = this.#hosts.get(key)
    const watched = known ?? {
      host: new ExemptHost(source, uid, now, this.#baselines.get(key) ?? null),
      tally: new Tally(now),
      policy,
      thresholds,
      open: null,
    }
    watched.policy = policy
    watched.thresholds = thresholds
    this.#hosts.delete(key)
    this.#hosts.set(key, watched)
    this.#baselines.delete(key)
    if (this.#hosts.size > MOST_HOSTS) {
      for (const [quietest, { open }] of this.#hosts) {
        if (open !== null) continue
        this.#hosts.delete(quietest)
        break
      }
    }
    return watched
  }

  #addressOf(source: string): Address {
    const address = this.#addresses.get(source) ?? { told: new ToldOfUsers(STEP), open: new Set() }
    this.#addresses.delete(source)
    this.#addresses.set(source, address)
    const [quietest] = this.#addresses.keys()
    if (this.#addresses.size > MOST_ADDRESSES && quietest !== undefined) this.#addresses.delete(quietest)
    return address
  }

  #opened(watched: Watched): void {
    const { source, uid } = watched.host
    if (uid !== null) this.#addressOf(source).open.add(watched)
  }

  #closed(watched: Watched, by: 'quiet' | 'person'): void {
    watched.open = null
    watched.tally = new Tally(watched.tally.lastSeen)
    this.#addresses.get(watched.host.source)?.open.delete(watched)
    if (by === 'person') watched.host.accept()
  }
}

/**
 * Relays and exempt hosts, each held against its own past. Of what this machine itself sends the kernel tells the user: each
 * is held against a past of their own. What is counted of their address and was told of nobody is the address's, unless it
 * had one user only lately.
 */
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import { Account, type Count, type StandOf } from './account.ts'
import type { Case } from './case.ts'
import type { CaseBook } from './case-book.ts'
import { type Baseline, ExemptHost, STEP } from './exempt-host.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { machineKey } from './machine-key.ts'
import { makeRoom } from './make-room.ts'
import { RecentUsers } from './recent-users.ts'
import { Tally } from './tally.ts'

interface Watched {
  readonly host: ExemptHost
  /** Of the incident; of no use without one. */
  tally: Tally
  /** Beyond it, what is known of by number alone. */
  lost: number
  /** The policy that would govern it. */
  policy: string | null
  thresholds: Thresholds
  open: Case | null
}

/** What the kernel counts is an address's. */
interface Address {
  readonly source: string
  account: Account
  /** Of the account's beginning. */
  step: number
  /** Local users who send from it; null: none ever did. */
  users: RecentUsers | null
  /** Those who have an open incident. */
  readonly open: Set<Watched>
}

type Place = Pick<Watched, 'policy' | 'thresholds'>

/** Hosts that are watched, and their addresses; of more, the one that was quiet longest is forgotten, with its baseline. */
const MOST_HOSTS = 16_384

export class ExemptHosts {
  readonly #book: CaseBook
  readonly #standOf: StandOf
  readonly #baselines = new Map<string, Baseline>()
  /** In order of their latest attempts, the quietest first. */
  readonly #hosts = new Map<string, Watched>()
  readonly #addresses = new Map<string, Address>()
  /** Those of which more was counted than told, and where that is. */
  readonly #unsettled = new Map<Address, Place>()

  constructor(book: CaseBook, standOf: StandOf = () => null) {
    this.#book = book
    this.#standOf = standOf
  }

  observe(attempt: Attempt, source: string, place: Place): IncidentEvent[] {
    const { time, uid } = attempt
    const address = this.#addressOf(source, time, 1)
    address.account.tell()
    if (uid !== null) address.users ??= new RecentUsers(STEP)
    address.users?.add(uid, time)
    const watched = this.#watched(source, uid, place, time)
    watched.tally.add(attempt, time)
    watched.host.add(attempt.destination.address, time)
    return this.#judge(watched, time)
  }

  /** The kernel has counted so many attempts more of a host. */
  counted(source: string, { attempts: more, packets, time }: Count, place: Place): IncidentEvent[] {
    if (more === 0 && !this.#addresses.has(source)) return []
    const address = this.#addressOf(source, time, 0)
    const { account } = address
    const attempts = account.grownBy(packets, more)
    account.count(attempts, packets, time)
    const events = this.#noteLost(address, place, time)
    if (account.isUnsettled) this.#unsettled.set(address, place)
    if (address.users !== null || attempts === 0) return events
    // Of its own, sooner than it is certain that nobody is told of it.
    const watched = this.#watched(source, null, place, time)
    watched.host.counted(attempts, time)
    return [...events, ...this.#judge(watched, time)]
  }

  /** To be called each second. `now` is in milliseconds since the epoch. */
  tick(now: number): IncidentEvent[] {
    const events: IncidentEvent[] = []
    for (const [address, place] of this.#unsettled) {
      address.account.settle(now)
      events.push(...this.#noteLost(address, place, now))
      if (!address.account.isUnsettled) this.#unsettled.delete(address)
    }
    return events
  }

  /** See `Machines.catchUp`. */
  catchUp(now: number): IncidentEvent[] {
    const events: IncidentEvent[] = []
    for (const address of this.#addresses.values()) {
      const stand = this.#standOf(address.source)
      const [open] = address.open
      if (stand === null || open === undefined) continue
      address.account.catchUp(stand, now)
      events.push(...this.#noteLost(address, open, now))
    }
    return events
  }

  /** Whether the user has an open incident. */
  accuses(source: string, uid: number): boolean {
    return (this.#hosts.get(machineKey(source, uid))?.open ?? null) !== null
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
    const { source, user, policy, lastSeen, counter } = incident
    const uid = user?.uid ?? null
    const address = this.#addressOf(source, lastSeen, 0)
    if (counter !== null) address.account.resume(counter)
    const watched = this.#watched(source, uid, { policy, thresholds }, lastSeen)
    const { tally } = watched
    watched.open = this.#book.resume(incident, { tally, thresholds, ...this.#ties(watched) })
    this.#opened(watched, lastSeen)
  }

  #judge(watched: Watched, now: number): IncidentEvent[] {
    const { host, policy, thresholds, open, tally, lost } = watched
    const judgement = host.judge(thresholds, now)
    if (open !== null) {
      // It is over when the host does what it always does, and not only when it does nothing.
      if (judgement === null) return []
      open.lastSeen = Math.max(open.lastSeen, now)
      this.#book.grew(open)
      return open.judge(judgement) ? [{ event: 'updated', time: now, incident: open.snapshot() }] : []
    }
    if (judgement === null) return []
    const { source, uid } = host
    const subject = { source, uid, policy, verdict: 'allow', thresholds, tally, lost } as const
    const opened = this.#book.open({ ...subject, judgement, ...this.#ties(watched) }, now)
    watched.open = opened.one
    this.#opened(watched, now)
    return [opened.event]
  }

  /** What was counted of an address, and nobody will be told of. */
  #noteLost({ source, account, users, open }: Address, place: Place, now: number): IncidentEvent[] {
    const more = account.takeLost()
    if (more === 0) return []
    const uid = users?.only(now) ?? null
    const watched = this.#watched(source, uid, place, now)
    watched.lost += more
    if (watched.open !== null) {
      watched.open.lost = watched.lost
      this.#book.grew(watched.open)
    }
    // What is an address's own was judged when it was counted.
    if (users === null) return []
    watched.host.lost(more, now)
    // Most likely it is of one who is known already.
    return uid === null && open.size > 0 ? [] : this.#judge(watched, now)
  }

  #watched(source: string, uid: number | null, { policy, thresholds }: Place, now: number): Watched {
    const key = machineKey(source, uid)
    const known = this.#hosts.get(key)
    const watched = known ?? {
      host: new ExemptHost(source, uid, now, this.#baselines.get(key) ?? null),
      tally: new Tally(now),
      lost: 0,
      policy,
      thresholds,
      open: null,
    }
    // What it did before, as always, is no part of an incident.
    if (watched.host.advance(now) && watched.open === null) this.#begin(watched, now)
    watched.policy = policy
    watched.thresholds = thresholds
    this.#hosts.delete(key)
    this.#hosts.set(key, watched)
    this.#baselines.delete(key)
    makeRoom(this.#hosts, MOST_HOSTS, ({ open }) => open !== null)
    return watched
  }

  #begin(watched: Watched, now: number): void {
    watched.tally = new Tally(now)
    watched.lost = 0
  }

  /** So many attempts were told already of one that is not known yet. */
  #addressOf(source: string, now: number, told: number): Address {
    const step = Math.floor(now / STEP)
    const known = this.#addresses.get(source)
    const address = known ?? { source, account: new Account(), step, users: null, open: new Set() }
    if (known === undefined) {
      this.#addresses.set(source, address)
      makeRoom(this.#addresses, MOST_HOSTS, ({ open }) => open.size > 0)
    }
    const isOld = step > address.step && address.open.size === 0 && !this.#unsettled.has(address)
    // What was told and is not counted for so long, the kernel has forgotten.
    if (told > 0 && (known === undefined || isOld)) {
      address.account = new Account()
      address.account.begin(this.#standOf(source), told)
      address.step = step
    }
    return address
  }

  /** What its incident asks and tells of the host. */
  #ties(watched: Watched) {
    return {
      standing: () => this.#addresses.get(watched.host.source)?.account.standing ?? null,
      onClosed: (by: 'quiet' | 'person') => this.#closed(watched, by),
    }
  }

  #opened(watched: Watched, now: number): void {
    const { source, uid } = watched.host
    const address = this.#addressOf(source, now, 0)
    address.open.add(watched)
    if (uid === null) return
    address.users ??= new RecentUsers(STEP)
    address.users.add(uid, now)
  }

  #closed(watched: Watched, by: 'quiet' | 'person'): void {
    watched.open = null
    this.#begin(watched, watched.tally.lastSeen)
    this.#addresses.get(watched.host.source)?.open.delete(watched)
    if (by === 'person') watched.host.accept()
  }
}

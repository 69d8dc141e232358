/**
 * Attempts to incidents, one open incident at most for a machine, and for each of this machine's own users. Time comes in with the attempts and ticks.
 *
 *                 enough attempts                quiet for resolve_after,
 *   (watched) ─────────────────────► open ──┐    or resolved by a person
 *       ▲                             ▲ ▲   │ ──────────────────────────────► resolved
 *       │                             │ └───┘                                    │
 *       │                             │  more attempts, a worse kind,            │
 *       │                             │  more confidence: updated                │
 *       │                             │                                          │
 *       │                             └── enough within reopen_within: the same ─┤
 *       │                                 incident is opened again               │
 *       └──────────────────────────────── later: watched afresh, and a new one ──┘
 *
 * A machine that is switched off at night is one story and one ticket, not one each morning. But an address may be
 * somebody else's after a while, who must not inherit it.
 *
 * Three sorts of subject are watched: machines that a policy governs, relays and exempt hosts, each against its own past,
 * and policies as a whole, for floods from forged addresses.
 */
import { DEFAULT_THRESHOLDS, type Thresholds } from '../policy/model.ts'
import { formatPrefix, truncate } from '../policy/prefix.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Count, Stand } from './account.ts'
import type { Case } from './case.ts'
import { CaseBook } from './case-book.ts'
import type { Baseline } from './exempt-host.ts'
import { ExemptHosts } from './exempt-hosts.ts'
import { Floods } from './floods.ts'
import { INCIDENT_KINDS, type Incident, type IncidentEvent, type IncidentKind } from './incident.ts'
import type { Local } from './local.ts'
import { memory } from './machine.ts'
import { Machines } from './machines.ts'

export interface DetectorOptions {
  /** The thresholds of a policy by name; null when there is no such policy (any more). */
  readonly thresholds: (policy: string) => Thresholds | null
  /** The policy that would govern what is allowed to send; null when none would. */
  readonly governing?: (source: Attempt['source']) => string | null
  /** A fresh id for an incident. */
  readonly newId: () => string
  /** What is known of this machine's own users. */
  readonly local?: Local
  /** Most machines watched at once; of more the one that was quiet longest is forgotten, unless it has an open incident. */
  readonly maxMachines?: number
  /** How far the kernel's counter of a machine, given in canonical text, has been read: of what it may send, or may not. */
  readonly standOf?: (source: string, allowed: boolean) => Stand | null
}

/** What the kernel counted of one machine since it was read before. */
export interface MachineCount extends Count {
  readonly machine: Attempt['source']
  readonly allowed: boolean
  /** null for a relay or an exempt host, or when no policy governs it any more. */
  readonly policy: string | null
  readonly verdict: Incident['verdict']
}

/** What one IPv6 machine is where no policy says it. */
const IPV6_PREFIX = 64
/** Milliseconds between two looks at what is worth keeping. */
const TIDY = 60_000

export class Detector {
  readonly #options: DetectorOptions
  readonly #book: CaseBook
  readonly #machines: Machines
  readonly #exempt: ExemptHosts
  readonly #floods: Floods
  #tidied = Number.NEGATIVE_INFINITY
  #longest = memory(DEFAULT_THRESHOLDS)

  constructor(options: DetectorOptions) {
    this.#options = options
    this.#book = new CaseBook(options.newId, options.local)
    const { maxMachines, standOf = () => null } = options
    this.#machines = new Machines(this.#book, maxMachines, (source) => standOf(source, false))
    this.#exempt = new ExemptHosts(this.#book, (source) => standOf(source, true))
    this.#floods = new Floods(this.#book)
  }

  /** Takes an attempt; tells what it changed. */
  observe(attempt: Attempt): IncidentEvent[] {
    const { policy, verdict, source } = attempt
    if (verdict === 'allow') {
      const place = this.#placeOf(source)
      return this.#exempt.observe(attempt, machineOf(source, IPV6_PREFIX), place)
    }
    const thresholds = policy === null ? null : this.#options.thresholds(policy)
    if (policy === null || thresholds === null) return []
    this.#longest = Math.max(this.#longest, thresholds.slowBot.window, thresholds.misconfigured.window)
    const machine = machineOf(source, thresholds.ipv6Prefix)
    const flood = this.#floods.watchOf(policy, thresholds)
    const events = this.#machines.observe(attempt, { machine, policy, thresholds, flood })
    return [...events, ...this.#floods.observe(attempt, policy, thresholds)]
  }

  /** Takes what the kernel counted of machines since it was read before; tells what that changed. */
  counted(counts: readonly MachineCount[]): IncidentEvent[] {
    return counts.flatMap((count) => {
      const { machine, allowed, policy } = count
      const source = formatPrefix(machine)
      if (allowed) return this.#exempt.counted(source, count, this.#placeOf(machine))
      const thresholds = policy === null ? null : this.#options.thresholds(policy)
      if (policy === null || thresholds === null) return []
      const flood = this.#floods.watchOf(policy, thresholds)
      return this.#machines.counted(count, { machine: source, policy, thresholds, flood })
    })
  }

  /**
   * To be called once, after `resume`, when the kernel's counters have been read for the first time and no attempt has
   * been told yet: what they have counted since the incidents were written is in these from now on. `now` is in
   * milliseconds since the epoch.
   */
  catchUp(now: number): IncidentEvent[] {
    this.#machines.catchUp(now)
    return this.#exempt.catchUp(now)
  }

  /** Takes the kernel's counts of all attempts by policy, which only ever grow. */
  countedInAll(attempts: ReadonlyMap<string, number>): void {
    for (const [policy, count] of attempts) {
      const thresholds = this.#options.thresholds(policy)
      if (thresholds !== null) this.#floods.counted(policy, count, thresholds)
    }
  }

  /** Resolves what has been quiet for long enough. `now` is in milliseconds since the epoch. To be called each second. */
  tick(now: number): IncidentEvent[] {
    const events = [...this.#exempt.tick(now), ...this.#book.tick(now)]
    this.#machines.tick(now)
    this.#floods.tick(now)
    if (now - this.#tidied >= TIDY) {
      this.#tidied = now
      this.#machines.tidy(now, this.#longest)
    }
    return events
  }

  /** Somebody looks after an incident; null when it is not open, or was acknowledged before. */
  acknowledge(id: string, now: number): IncidentEvent | null {
    const one = this.#book.find(id)
    if (one === null || one.acknowledged) return null
    one.acknowledged = true
    return { event: 'updated', time: now, incident: one.snapshot() }
  }

  /** Ends an incident by a person's word; null when it is not open. */
  resolve(id: string, now: number): IncidentEvent | null {
    return this.#book.resolve(id, now)
  }

  /** Takes up an incident that an earlier run left open, or resolved a while ago. */
  resume(incident: Incident): void {
    const { policy, kind, state, lastSeen } = incident
    // Without its policy it can still come to its end.
    const thresholds = (policy === null ? null : this.#options.thresholds(policy)) ?? DEFAULT_THRESHOLDS
    if (state === 'resolved') this.#book.remember(incident, lastSeen + thresholds.reopenWithin)
    else if (kind === 'flood') this.#floods.resume(incident, thresholds)
    else if (kind === 'exempt-host-anomaly') this.#exempt.resume(incident, thresholds)
    else this.#machines.resume(incident, thresholds)
  }

  /** What relays and exempt hosts usually do, to be kept and given back after a restart. */
  baselines(): Baseline[] {
    return this.#exempt.baselines()
  }

  /** Takes up what an earlier run learned. */
  know(baselines: readonly Baseline[]): void {
    this.#exempt.know(baselines)
  }

  /** Whether a local user who may send, and made the attempt, has an open incident. */
  accuses({ source, uid }: Pick<Attempt, 'source' | 'uid'>): boolean {
    return uid !== null && this.#exempt.accuses(machineOf(source, IPV6_PREFIX), uid)
  }

  /** All open incidents as they stand. Costs as much as there are of them: for one or for their number ask otherwise. */
  open(): Incident[] {
    return [...this.#book.cases()].map((one) => one.snapshot())
  }

  /** An open incident as it stands; null when there is none of that id. */
  find(id: string): Incident | null {
    return this.#book.find(id)?.snapshot() ?? null
  }

  /** The open incidents of a machine. */
  openOf(source: string): Incident[] {
    return [...this.#book.cases()].flatMap((one: Case) => (one.source === source ? [one.snapshot()] : []))
  }

  openByKind(): Readonly<Record<IncidentKind, number>> {
    const counts = Object.fromEntries(INCIDENT_KINDS.map((kind) => [kind, 0])) as Record<IncidentKind, number>
    for (const { kind } of this.#book.cases()) counts[kind]++
    return counts
  }

  /** So many at most of the open incidents that grew since they were last asked for. */
  takeGrown(most: number): Incident[] {
    return this.#book.takeGrown(most)
  }

  /** Machines that are watched, with or without an incident. */
  get watched(): number {
    return this.#machines.watched
  }

  #placeOf(source: Attempt['source']): { policy: string | null; thresholds: Thresholds } {
    const policy = this.#options.governing?.(source) ?? null
    return {
      policy,
      thresholds: (policy === null ? null : this.#options.thresholds(policy)) ?? DEFAULT_THRESHOLDS,
    }
  }
}

function machineOf(source: Attempt['source'], ipv6Prefix: number): string {
  return formatPrefix(source.family === 6 ? truncate(source, ipv6Prefix) : source)
}

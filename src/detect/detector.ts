/**
 * Attempts to incidents, one open incident at most for a machine. Time comes in with the attempts and ticks.
 *
 *              enough attempts                     quiet for resolve_after,
 *   (watched) ────────────────► open ──┐           or resolved by a person
 *       ▲                        ▲     │ more attempts, a worse kind,  ────► resolved
 *       │                        └─────┘ more confidence: updated              │
 *       └───────────────────────── attempts afterwards ◄───────────────────────┘
 */

import { isDeepStrictEqual } from 'node:util'
import { DEFAULT_THRESHOLDS, type Thresholds } from '../policy/model.ts'
import { formatPrefix, truncate } from '../policy/prefix.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { type Judgement, judge } from './judge.ts'
import { SlidingWindow } from './sliding-window.ts'
import { summarize } from './summary.ts'

export interface DetectorOptions {
  /** The thresholds of a policy by name; null when there is no such policy (any more). */
  readonly thresholds: (policy: string) => Thresholds | null
  /** A fresh id for an incident. */
  readonly newId: () => string
  /** Most machines watched at once; beyond it the one that was quiet longest is forgotten. */
  readonly maxMachines?: number
}

type Judged = Attempt & { readonly policy: string; readonly verdict: Incident['verdict'] }

interface Machine {
  readonly source: string
  readonly thresholds: Thresholds
  readonly short: SlidingWindow
  readonly long: SlidingWindow
  open: OpenIncident | null
}

/** Counted on while it lasts; made into an `Incident` when somebody asks. */
interface OpenIncident {
  incident: Incident
  readonly perDestination: Map<string, number>
  attempts: number
  /** Distinct destinations, also those beyond what is kept by name. */
  destinations: number
  lastSeen: number
  /** Attempts at which the next update is worth a message. */
  nextNotice: number
  judgement: Judgement
}

const MAX_MACHINES = 65_536
const MAX_DESTINATIONS = 1_000
const TOP_DESTINATIONS = 5
const WINDOW_CAPACITY = 512
/** An incident that grew tenfold is news again. */
const NOTICE_FACTOR = 10

export class Detector {
  readonly #options: DetectorOptions
  readonly #maxMachines: number
  /** In order of their latest attempts, the quietest first. */
  readonly #machines = new Map<string, Machine>()

  constructor(options: DetectorOptions) {
    this.#options = options
    this.#maxMachines = options.maxMachines ?? MAX_MACHINES
  }

  /** Takes an attempt; tells what it changed. */
  observe(attempt: Attempt): IncidentEvent[] {
    const { policy, verdict } = attempt
    // What relays and exempt hosts may do is judged by nobody yet.
    if (policy === null || verdict === 'allow') return []
    const thresholds = this.#options.thresholds(policy)
    if (thresholds === null) return []
    const machine = this.#machine(attempt, thresholds)
    const destination = formatPrefix(attempt.destination)
    const connection = `${attempt.sourcePort} ${destination}`
    machine.short.add({ time: attempt.time, destination, connection })
    machine.long.add({ time: attempt.time, destination, connection })
    if (machine.open !== null) count(machine.open, destination, attempt.time)
    const judgement = judge(machine, thresholds)
    if (machine.open === null)
      return judgement === null
        ? []
        : [this.#openIncident(machine, { ...attempt, policy, verdict }, judgement)]
    return update(machine.open, judgement, attempt.time)
  }

  /** Resolves what has been quiet for long enough. `now` is in milliseconds since the epoch. */
  tick(now: number): IncidentEvent[] {
    const events: IncidentEvent[] = []
    for (const [source, machine] of this.#machines) {
      const { open, thresholds } = machine
      if (open !== null && open.lastSeen + thresholds.resolveAfter <= now) {
        events.push({
          event: 'resolved',
          time: now,
          incident: { ...snapshot(open), state: 'resolved' as const },
        })
        this.#machines.delete(source)
      }
    }
    return events
  }

  /** Somebody looks after an incident; null when it is not open, or was acknowledged before. */
  acknowledge(id: string, now: number): IncidentEvent | null {
    for (const machine of this.#machines.values()) {
      const { open } = machine
      if (open?.incident.id !== id || open.incident.acknowledged) continue
      open.incident = { ...open.incident, acknowledged: true }
      return { event: 'updated', time: now, incident: snapshot(open) }
    }
    return null
  }

  /** Ends an incident by a person's word; null when it is not open. */
  resolve(id: string, now: number): IncidentEvent | null {
    for (const [source, { open }] of this.#machines) {
      if (open?.incident.id === id) {
        this.#machines.delete(source)
        return { event: 'resolved', time: now, incident: { ...snapshot(open), state: 'resolved' as const } }
      }
    }
    return null
  }

  /** Takes up an incident that an earlier run left open. */
  resume(incident: Incident): void {
    if (incident.state !== 'open') return
    // Without its policy it can still come to its end.
    const { policy } = incident
    const thresholds = (policy === null ? null : this.#options.thresholds(policy)) ?? DEFAULT_THRESHOLDS
    const machine = newMachine(incident.source, thresholds)
    const { attempts, destinations, lastSeen, kind, confidence } = incident
    machine.open = {
      incident,
      perDestination: new Map(incident.topDestinations.map((top) => [top.destination, top.attempts])),
      attempts,
      destinations,
      lastSeen,
      nextNotice: attempts * NOTICE_FACTOR,
      judgement: { kind, confidence },
    }
    this.#machines.set(incident.source, machine)
  }

  /** All open incidents as they stand. */
  open(): Incident[] {
    return [...this.#machines.values()].flatMap(({ open }) => (open === null ? [] : [snapshot(open)]))
  }

  #machine({ source }: Attempt, thresholds: Thresholds): Machine {
    const key = formatPrefix(source.family === 6 ? truncate(source, thresholds.ipv6Prefix) : source)
    let machine = this.#machines.get(key)
    // A policy that changed its mind about windows starts to watch afresh; what is open stays open.
    if (machine === undefined || !isDeepStrictEqual(machine.thresholds, thresholds)) {
      const open = machine?.open ?? null
      machine = newMachine(key, thresholds)
      machine.open = open
    }
    this.#machines.delete(key)
    this.#machines.set(key, machine)
    if (this.#machines.size > this.#maxMachines) this.#forgetOne()
    return machine
  }

  #forgetOne(): void {
    for (const [source, { open }] of this.#machines) {
      if (open !== null) continue
      this.#machines.delete(source)
      return
    }
  }

  #openIncident(machine: Machine, attempt: Judged, judgement: Judgement): IncidentEvent {
    const { long, short } = machine
    const window = long.attempts >= short.attempts ? long : short
    const perDestination = window.perDestination()
    const open: OpenIncident = {
      incident: {
        id: this.#options.newId(),
        ...judgement,
        state: 'open',
        source: machine.source,
        policy: attempt.policy,
        verdict: attempt.verdict,
        acknowledged: false,
        firstSeen: window.firstTime ?? attempt.time,
        lastSeen: attempt.time,
        attempts: 0,
        destinations: 0,
        topDestinations: [],
        lost: 0,
        evidence: {
          rule: judgement.kind === 'spam-bot' ? 'fan-out' : 'retries',
          window: attempt.time - (window.firstTime ?? attempt.time),
          attempts: window.attempts,
          connections: window.connections,
          destinations: window.destinations,
          sources: 1,
          limits: {},
          usual: null,
        },
        interfaces: [],
        hardwareAddresses: [],
        reopened: 0,
        summary: '',
      },
      perDestination,
      attempts: window.attempts,
      destinations: perDestination.size,
      lastSeen: attempt.time,
      nextNotice: window.attempts * NOTICE_FACTOR,
      judgement,
    }
    machine.open = open
    return { event: 'opened', time: attempt.time, incident: snapshot(open) }
  }
}

function newMachine(source: string, thresholds: Thresholds): Machine {
  const capacity = Math.max(
    WINDOW_CAPACITY,
    thresholds.spamBot.attempts * 3,
    thresholds.misconfigured.attempts,
  )
  return {
    source,
    thresholds,
    short: new SlidingWindow(thresholds.spamBot.window, capacity),
    long: new SlidingWindow(thresholds.misconfigured.window, capacity),
    open: null,
  }
}

function count(open: OpenIncident, destination: string, time: number): void {
  open.attempts++
  open.lastSeen = Math.max(open.lastSeen, time)
  const known = open.perDestination.get(destination)
  if (known !== undefined) open.perDestination.set(destination, known + 1)
  else if (open.perDestination.size < MAX_DESTINATIONS) {
    open.perDestination.set(destination, 1)
    open.destinations++
  }
}

/** A machine never becomes less suspect while its incident lasts. */
function update(open: OpenIncident, judgement: Judgement | null, time: number): IncidentEvent[] {
  const worse = judgement !== null && rank(judgement) > rank(open.judgement)
  if (worse) open.judgement = judgement
  else if (open.attempts < open.nextNotice) return []
  open.nextNotice = Math.max(open.nextNotice, open.attempts * NOTICE_FACTOR)
  return [{ event: 'updated', time, incident: snapshot(open) }]
}

function rank({ kind, confidence }: Judgement): number {
  return (kind === 'spam-bot' ? 2 : 0) + (confidence === 'definite' ? 1 : 0)
}

function snapshot({
  incident,
  judgement,
  attempts,
  destinations,
  lastSeen,
  perDestination,
}: OpenIncident): Incident {
  const topDestinations = [...perDestination]
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP_DESTINATIONS)
    .map(([destination, times]) => ({ destination, attempts: times }))
  const current = { ...incident, ...judgement, attempts, destinations, lastSeen, topDestinations }
  return { ...current, summary: summarize(current) }
}

/**
 * Watches the kernel while the service runs: attempts as they come, counters and the table's mark every second, and
 * from them incidents and losses; what drifts is put right by `drift.ts`.
 */
import { randomUUID } from 'node:crypto'
import { Detector } from '../../detect/detector.ts'
import type { Incident, IncidentEvent } from '../../detect/incident.ts'
import { type ChangeMonitor, startChangeMonitor } from '../../kernel/change-monitor.ts'
import type { Enforcer } from '../../kernel/enforcer.ts'
import type { Generation } from '../../kernel/generation.ts'
import type { LocalUsers } from '../../kernel/local-users.ts'
import { governingPolicy } from '../../policy/decide.ts'
import type { Model, Thresholds } from '../../policy/model.ts'
import type { BaselineStore } from '../../store/baselines.ts'
import type { Attempt } from '../../watch/attempt.ts'
import { type EventSource, startEventSource } from '../../watch/event-source.ts'
import { LocalProcesses } from '../../watch/local-processes.ts'
import { LossMeter } from '../../watch/loss.ts'
import { RunningTotals, type Sum } from '../../watch/totals.ts'
import type { Controller } from '../controller.ts'
import type { AttemptHistory, Tally } from './attempt-history.ts'
import { Drift, type DriftLog, type DriftStatus } from './drift.ts'

export interface MonitorOptions {
  readonly controller: Controller
  readonly enforcer: Enforcer
  readonly generation: Generation
  readonly nflogGroup: number
  /** Incidents that an earlier run left open, and those that may be opened again. */
  readonly resumed: readonly Incident[]
  /** Names of local users. */
  readonly users: LocalUsers
  /** What relays and exempt hosts usually do. */
  readonly baselines: Pick<BaselineStore, 'all' | 'save'>
  /** Must be durable when it returns. */
  readonly onIncident: (event: IncidentEvent, attempt: Attempt | null) => void
  /** Open incidents that grew since they were last told of. */
  readonly onProgress: (incidents: readonly Incident[]) => void
  readonly history: Pick<AttemptHistory, 'begin' | 'observe' | 'look' | 'standOf' | 'tick'>
  readonly log: MonitorLog
}

/** What people should hear of. */
export interface MonitorLog extends DriftLog {
  attempt(attempt: Attempt): void
  listening(): void
  deaf(reason: string, restartIn: number): void
  /** Changes by others are not heard of. */
  blind(reason: string, restartIn: number): void
}

export interface MonitorStatus extends DriftStatus {
  readonly listening: boolean
  readonly attempts: number
  readonly told: number
  readonly lost: number
  /** Connections of relays and exempt hosts that were told; the kernel tells some, and counts all. */
  readonly allowedTold: number
  /** Machines that are watched closely, or are about to be. */
  readonly watched: number
  readonly sums: readonly Sum[]
}

const INTERVAL = 1_000

/** Incidents that have grown are written so many a second. */
const GROWN_AT_ONCE = 200

const BASELINES_INTERVAL = 600_000

export class Monitor {
  readonly detector: Detector
  readonly #options: MonitorOptions
  readonly #processes = new LocalProcesses(Date.now)
  readonly #totals = new RunningTotals()
  readonly #loss = new LossMeter()
  readonly #drift: Drift
  #events: EventSource | null = null
  #changes: ChangeMonitor | null = null
  #timer: NodeJS.Timeout | null = null
  #guarded = Number.NEGATIVE_INFINITY
  #told = 0
  #allowedTold = 0
  #thresholds: { readonly model: Model; readonly byPolicy: ReadonlyMap<string, Thresholds> } | null = null
  #baselinesSaved = 0

  constructor(options: MonitorOptions) {
    this.#options = options
    const { controller, enforcer, generation, log } = options
    const onWrittenAnew = () => this.#loss.restart()
    this.#drift = new Drift({ controller, enforcer, generation, onWrittenAnew, log })
    this.detector = new Detector({
      newId: randomUUID,
      thresholds: (policy) => this.#thresholdsOf(policy),
      governing: (source) => {
        const { inForce } = controller
        return inForce === null ? null : (governingPolicy(inForce.model, source)?.policy.name ?? null)
      },
      standOf: (source, allowed) => options.history.standOf(source, allowed),
      local: {
        nameOf: (uid) => options.users.nameOf(uid),
        processOf: (uid) => this.#processes.of(uid),
      },
    })
  }

  /** Takes the first reading of the counters, and then listens: what is counted in between shows up as lost. */
  async start(): Promise<void> {
    this.detector.know(this.#options.baselines.all())
    for (const incident of this.#options.resumed) this.detector.resume(incident)
    await this.#look()
    await this.#options.history.begin()
    for (const event of this.detector.catchUp(Date.now())) this.#options.onIncident(event, null)
    const { nflogGroup, log } = this.#options
    this.#events = startEventSource({
      nflogGroup,
      onAttempt: (attempt) => this.#observe(attempt),
      onListening: () => log.listening(),
      onEnd: (reason, restartIn) => log.deaf(reason, restartIn),
    })
    this.#changes = startChangeMonitor({
      own: this.#options.enforcer.own,
      generation: this.#options.generation,
      onForeignChange: (change) => void this.#drift.hear(change),
      onMissed: () => void this.#drift.missed(),
      onEnd: (reason, restartIn) => log.blind(reason, restartIn),
    })
    this.#schedule()
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#events?.stop()
    this.#changes?.stop()
    this.#drift.stop()
    this.#tellProgress(Number.POSITIVE_INFINITY)
    this.#options.baselines.save(this.detector.baselines())
  }

  /** Takes what the kernel counted of machines since it was read before. */
  take(tallies: readonly Tally[]): void {
    for (const event of this.detector.counted(tallies)) this.#options.onIncident(event, null)
  }

  status(): MonitorStatus {
    return {
      ...this.#drift.status,
      listening: this.#events?.listening ?? false,
      attempts: this.#totals.attempts(),
      told: this.#told,
      lost: this.#loss.lost,
      allowedTold: this.#allowedTold,
      watched: this.detector.watched,
      sums: this.#totals.sums(),
    }
  }

  #observe(attempt: Attempt): void {
    // Its connection is there for a moment only. Of who may send, nobody asks before it does what it never did.
    if (attempt.verdict !== 'allow' || this.detector.accuses(attempt)) this.#processes.look(attempt)
    if (attempt.verdict === 'allow') this.#allowedTold++
    else this.#told++
    this.#options.log.attempt(attempt)
    this.#options.history.observe(attempt)
    for (const event of this.detector.observe(attempt)) this.#options.onIncident(event, attempt)
  }

  #schedule(): void {
    this.#timer = setTimeout(async () => {
      await this.#look()
      this.#tellProgress(GROWN_AT_ONCE)
      this.#options.history.tick(Date.now())
      for (const event of this.detector.tick(Date.now())) this.#options.onIncident(event, null)
      this.#keepBaselines(Date.now())
      this.#drift.tick()
      if (this.#timer !== null) this.#schedule()
    }, INTERVAL)
  }

  /** Thousands may grow at once: they are written in turn. */
  #tellProgress(most: number): void {
    const grown = this.detector.takeGrown(most)
    if (grown.length > 0) this.#options.onProgress(grown)
  }

  #keepBaselines(now: number): void {
    if (now - this.#baselinesSaved < BASELINES_INTERVAL) return
    this.#baselinesSaved = now
    this.#options.baselines.save(this.detector.baselines())
  }

  /** Asked for each attempt, so the policies are not looked through each time. */
  #thresholdsOf(policy: string): Thresholds | null {
    const model = this.#options.controller.inForce?.model
    if (model === undefined) return null
    if (this.#thresholds?.model !== model) {
      const byPolicy = new Map(model.policies.map(({ name, thresholds }) => [name, thresholds]))
      this.#thresholds = { model, byPolicy }
    }
    return this.#thresholds.byPolicy.get(policy) ?? null
  }

  /** Reads the kernel between two changes, so that it is held against what it should be at that moment. */
  async #look(): Promise<void> {
    const { controller, enforcer, history } = this.#options
    await controller.exclusively(async () => {
      const { inForce, lastGuarded } = controller
      if (lastGuarded > this.#guarded) {
        // The table is a new one, with counters that start afresh.
        this.#guarded = lastGuarded
        this.#drift.guarded()
        this.#loss.restart()
      }
      try {
        const state = await enforcer.readState()
        if (state !== null && inForce !== null) {
          const { totals } = inForce.ruleset
          this.#totals.update(totals, state.totals)
          history.look(totals, state.totals)
          this.#loss.update(this.#totals.attempts(), this.#told)
          this.detector.countedInAll(this.#totals.attemptsByPolicy())
        }
        if (state === null) await this.#drift.look('gone')
        else await this.#drift.look(state.digest === inForce?.applied.digest ? 'as-applied' : 'replaced')
      } catch (error) {
        this.#drift.unreadable(error as Error)
      }
    })
  }
}

/**
 * Watches the kernel while the service runs: attempts as they come, counters and the table's mark every second, and
 * from them incidents, losses and drift.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { Detector } from '../detect/detector.ts'
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import {
  type ChangeMonitor,
  type Damage,
  type ForeignChange,
  startChangeMonitor,
} from '../kernel/change-monitor.ts'
import type { Enforcer } from '../kernel/enforcer.ts'
import type { Generation } from '../kernel/generation.ts'
import type { LocalUsers } from '../kernel/local-users.ts'
import { governingPolicy } from '../policy/decide.ts'
import type { Model, Thresholds } from '../policy/model.ts'
import type { BaselineStore } from '../store/baselines.ts'
import type { Attempt } from '../watch/attempt.ts'
import { type EventSource, startEventSource } from '../watch/event-source.ts'
import { LocalProcesses } from '../watch/local-processes.ts'
import { LossMeter } from '../watch/loss.ts'
import { RunningTotals, type Sum } from '../watch/totals.ts'
import type { AttemptHistory, Tally } from './attempt-history.ts'
import type { Controller } from './controller.ts'

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
export interface MonitorLog {
  attempt(attempt: Attempt): void
  listening(): void
  deaf(reason: string, restartIn: number): void
  drift(what: string, change: ForeignChange | null, healIn: number): void
  healed(): void
  /** Somebody changes our table again and again, and it is put right more and more slowly. */
  contested(change: ForeignChange | null, healIn: number): void
  uncontested(): void
  /** Changes by others were not heard of, so the table is written anew to be sure. */
  missed(): void
  blind(reason: string, restartIn: number): void
  unreadable(error: Error): void
}

export interface MonitorStatus {
  /** The kernel holds the ruleset that was applied; null until the first look. */
  readonly inSync: boolean | null
  readonly listening: boolean
  readonly drift: number
  /** Somebody changes our table again and again. */
  readonly contested: boolean
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

/** Two programs that write the same table must not fight at full speed: each round waits longer, up to a minute. */
const FIRST_PAUSE = 500
const LONGEST_PAUSE = 60_000
/** After so much peace the next drift is healed at once again. */
const PEACE = 120_000

/** So many drifts without peace in between are a fight. */
const CONTESTED = 3

/** Milliseconds in which a change that is seen already is heard of, too. */
const HEARSAY = 50

/** Milliseconds after a guard has changed our table in which we hear of it. */
const GUARDED = 5_000

export class Monitor {
  readonly detector: Detector
  readonly #options: MonitorOptions
  readonly #processes = new LocalProcesses(Date.now)
  readonly #totals = new RunningTotals()
  readonly #loss = new LossMeter()
  #events: EventSource | null = null
  #changes: ChangeMonitor | null = null
  #healTimer: NodeJS.Timeout | null = null
  #damage: Damage = 'rules'
  #lastHeal = 0
  #pause = 0
  #rounds = 0
  #timer: NodeJS.Timeout | null = null
  #inSync: boolean | null = null
  #wasThere = false
  #guarded = Number.NEGATIVE_INFINITY
  #heardOfGuard = Number.NEGATIVE_INFINITY
  #drift = 0
  /** What was heard of, and waits until whoever works on the rules is done. */
  #heard: ForeignChange | null = null
  /** Why the kernel could not be asked, as it was told last; empty when it could. */
  #complaint = ''
  #told = 0
  #allowedTold = 0
  #thresholds: { readonly model: Model; readonly byPolicy: ReadonlyMap<string, Thresholds> } | null = null
  #baselinesSaved = 0

  constructor(options: MonitorOptions) {
    this.#options = options
    this.detector = new Detector({
      newId: randomUUID,
      thresholds: (policy) => this.#thresholdsOf(policy),
      governing: (source) => {
        const { inForce } = options.controller
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
      onForeignChange: (change) => void this.#hearOf(change),
      onMissed: () => void this.#missed(),
      onEnd: (reason, restartIn) => log.blind(reason, restartIn),
    })
    this.#schedule()
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#events?.stop()
    this.#changes?.stop()
    if (this.#healTimer !== null) clearTimeout(this.#healTimer)
    this.#tellProgress(Number.POSITIVE_INFINITY)
    this.#options.baselines.save(this.detector.baselines())
  }

  /** Takes what the kernel counted of machines since it was read before. */
  take(tallies: readonly Tally[]): void {
    for (const event of this.detector.counted(tallies)) this.#options.onIncident(event, null)
  }

  status(): MonitorStatus {
    return {
      inSync: this.#inSync,
      listening: this.#events?.listening ?? false,
      drift: this.#drift,
      contested: this.#rounds >= CONTESTED,
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
      this.#lookForPeace()
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

  /** A guard that took a change back is no drift: the controller, asked first, knows of it. Once, for each guard. */
  async #hearOf(change: ForeignChange): Promise<void> {
    const { controller } = this.#options
    this.#heard ??= change
    await controller.exclusively(async () => {})
    if (this.#heard === change) this.#heard = null
    if (this.#timer === null) return
    const { lastGuarded } = controller
    if (change.damage === 'everything' && lastGuarded > this.#heardOfGuard) {
      this.#heardOfGuard = lastGuarded
      if (performance.now() - lastGuarded < GUARDED) return
    }
    this.#drifted('somebody changed our table', change)
  }

  /** Reads the kernel between two changes, so that it is held against what it should be at that moment. */
  async #look(): Promise<void> {
    const { controller, enforcer } = this.#options
    await controller.exclusively(async () => {
      const { inForce, lastGuarded } = controller
      if (lastGuarded > this.#guarded) {
        // The table is a new one, with counters that start afresh.
        this.#guarded = lastGuarded
        this.#wasThere = false
        this.#loss.restart()
      }
      try {
        if (inForce === null) {
          // No model to hold it against, but what was last good, and is there, should not vanish.
          this.#inSync = null
          const isThere = (await enforcer.readState()) !== null
          if (this.#wasThere && !isThere) this.#drifted('the table is gone', null)
          this.#wasThere = isThere
          return
        }
        const state = await enforcer.readState()
        const isSame = state?.digest === inForce.applied.digest
        if (this.#healTimer === null) this.#inSync = isSame
        if (state !== null) {
          this.#totals.update(inForce.ruleset.totals, state.totals)
          this.#options.history.look(inForce.ruleset.totals, state.totals)
          this.#loss.update(this.#totals.attempts(), this.#told)
          this.detector.countedInAll(this.#totals.attemptsByPolicy())
        }
        if (!isSame) {
          // Seen before it was heard of: who did it is told any moment.
          if (this.#healTimer === null) await wait(HEARSAY)
          this.#drifted(state === null ? 'the table is gone' : 'the table was replaced', this.#heard)
        }
        if (this.#healTimer === null) this.#complaint = ''
      } catch (error) {
        this.#inSync = false
        this.#complain(error as Error)
      }
    })
  }

  /** One line for each reason, not one a second. */
  #complain(error: Error): void {
    if (error.message === this.#complaint) return
    this.#complaint = error.message
    this.#options.log.unreadable(error)
  }

  /** Nobody knows whether they were to our table. */
  async #missed(): Promise<void> {
    const { controller, generation, log } = this.#options
    await controller.exclusively(async () => {
      if (controller.inForce === null) await generation.note()
    })
    if (this.#timer === null || controller.inForce === null) return
    log.missed()
    this.#damage = 'everything'
    this.#healSoon()
  }

  /** Counts, tells, and heals. */
  #drifted(what: string, change: ForeignChange | null): void {
    if (this.#options.controller.inForce !== null) this.#inSync = false
    if (change?.damage !== 'rules') this.#damage = 'everything'
    if (this.#healTimer !== null) return
    this.#drift++
    const healIn = this.#healSoon()
    this.#options.log.drift(what, change, healIn)
    if (++this.#rounds === CONTESTED) this.#options.log.contested(change, healIn)
  }

  #lookForPeace(): void {
    if (this.#rounds === 0 || this.#healTimer !== null || Date.now() - this.#lastHeal <= PEACE) return
    if (this.#rounds >= CONTESTED) this.#options.log.uncontested()
    this.#rounds = 0
  }

  /** At once the first time, then more and more slowly. Answers in how many milliseconds. */
  #healSoon(): number {
    if (Date.now() - this.#lastHeal > PEACE) this.#pause = 0
    const healIn = this.#pause
    if (this.#healTimer !== null) return healIn
    this.#healTimer = setTimeout(() => void this.#heal(), healIn)
    this.#pause = Math.min(Math.max(this.#pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
    return healIn
  }

  async #heal(): Promise<void> {
    const { controller, enforcer } = this.#options
    await controller.exclusively(async () => {
      this.#lastHeal = Date.now()
      this.#healTimer = null
      const damage = this.#damage
      this.#damage = 'rules'
      try {
        await enforcer.restore(damage)
        if (damage === 'everything') this.#loss.restart()
        this.#inSync = controller.inForce === null ? null : true
        this.#complaint = ''
        this.#options.log.healed()
      } catch (error) {
        // What was changed is still as somebody else left it, even where the mark of the table is ours.
        if (this.#damage === 'rules') this.#damage = damage
        if (this.#timer !== null) this.#healSoon()
        this.#complain(error as Error)
      }
    })
  }
}

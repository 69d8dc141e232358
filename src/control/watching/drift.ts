/**
 * Whether the kernel still holds what was applied. Where it does not, because somebody else changed our table, that is
 * told, and put right: at once the first time, then more and more slowly.
 */
import { setTimeout as wait } from 'node:timers/promises'
import type { Damage, ForeignChange } from '../../kernel/change-monitor.ts'
import type { Enforcer } from '../../kernel/enforcer.ts'
import type { Generation } from '../../kernel/generation.ts'
import type { Controller } from '../controller.ts'

export interface DriftOptions {
  readonly controller: Pick<Controller, 'exclusively' | 'inForce' | 'lastGuarded'>
  readonly enforcer: Pick<Enforcer, 'restore'>
  readonly generation: Pick<Generation, 'note'>
  /** Counters of the table that was written anew may be older than what was told. */
  readonly onWrittenAnew: () => void
  readonly log: DriftLog
}

/** What people should hear of. */
export interface DriftLog {
  drift(what: string, change: ForeignChange | null, healIn: number): void
  healed(): void
  /** Somebody changes our table again and again, and it is put right more and more slowly. */
  contested(change: ForeignChange | null, healIn: number): void
  uncontested(): void
  /** Changes by others were not heard of, so the table is written anew to be sure. */
  missed(): void
  unreadable(error: Error): void
}

export interface DriftStatus {
  /** The kernel holds the ruleset that was applied; null until the first look. */
  readonly inSync: boolean | null
  /** How often it did not. */
  readonly drift: number
  /** Somebody changes our table again and again. */
  readonly contested: boolean
}

/** What our table was found to be: ours, somebody else's, or not there. */
export type Found = 'as-applied' | 'replaced' | 'gone'

const WORDS = { replaced: 'the table was replaced', gone: 'the table is gone' } as const

/** Two programs that write the same table must not fight at full speed: each round waits longer, up to a minute. */
const FIRST_PAUSE = 500
const LONGEST_PAUSE = 60_000
/** After so much peace the next drift is healed at once again. */
const PEACE = 120_000

/** So many drifts without peace in between are a fight. */
const CONTESTED = 3

/** Milliseconds in which a change that is seen already is heard of, too, also where socat has to wait for its turn. */
const HEARSAY = 250
/** How often it is looked whether it was. */
const HEARSAY_INTERVAL = 5

/** Milliseconds after a guard has changed our table in which we hear of it. */
const GUARDED = 5_000

export class Drift {
  readonly #options: DriftOptions
  #inSync: boolean | null = null
  #count = 0
  /** Where nothing is known to be in force: whether a table was there all the same. */
  #wasThere = false
  #timer: NodeJS.Timeout | null = null
  #isStopped = false
  #damage: Damage = 'rules'
  #lastHeal = 0
  #pause = 0
  #rounds = 0
  #heardOfGuard = Number.NEGATIVE_INFINITY
  /** What was heard of, and waits until whoever works on the rules is done. */
  #heard: ForeignChange | null = null
  /** Why the kernel could not be asked, as it was told last; empty when it could. */
  #complaint = ''

  constructor(options: DriftOptions) {
    this.#options = options
  }

  get status(): DriftStatus {
    return { inSync: this.#inSync, drift: this.#count, contested: this.#rounds >= CONTESTED }
  }

  stop(): void {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** A guard that took a change back is no drift: the controller, asked first, knows of it. Once, for each guard. */
  async hear(change: ForeignChange): Promise<void> {
    const { controller } = this.#options
    this.#heard ??= change
    await controller.exclusively(async () => {})
    if (this.#heard === change) this.#heard = null
    if (this.#isStopped) return
    const { lastGuarded } = controller
    if (change.damage === 'everything' && lastGuarded > this.#heardOfGuard) {
      this.#heardOfGuard = lastGuarded
      if (performance.now() - lastGuarded < GUARDED) return
    }
    this.#drifted('somebody changed our table', change)
  }

  /** Changes that nobody heard of: whether they were to our table, nobody knows. */
  async missed(): Promise<void> {
    const { controller, generation, log } = this.#options
    await controller.exclusively(async () => {
      if (controller.inForce === null) await generation.note()
    })
    if (this.#isStopped || controller.inForce === null) return
    log.missed()
    this.#damage = 'everything'
    this.#healSoon()
  }

  /** The kernel was asked between two changes. */
  async look(found: Found): Promise<void> {
    if (this.#options.controller.inForce === null) {
      // No model to hold it against, but what was last good, and is there, should not vanish.
      this.#inSync = null
      if (this.#wasThere && found === 'gone') this.#drifted(WORDS.gone, null)
      this.#wasThere = found !== 'gone'
      return
    }
    if (this.#timer === null) this.#inSync = found === 'as-applied'
    if (found !== 'as-applied') {
      // Seen before it was heard of: who did it is told any moment.
      if (this.#timer === null) await this.#hearsay()
      this.#drifted(WORDS[found], this.#heard)
    }
    if (this.#timer === null) this.#complaint = ''
  }

  async #hearsay(): Promise<void> {
    const end = performance.now() + HEARSAY
    while (this.#heard === null && performance.now() < end) await wait(HEARSAY_INTERVAL)
  }

  /** The kernel could not be asked. One line for each reason, not one a second. */
  unreadable(error: Error): void {
    this.#inSync = false
    if (error.message === this.#complaint) return
    this.#complaint = error.message
    this.#options.log.unreadable(error)
  }

  /** The guard of a change has written the table: what was there before it says nothing. */
  guarded(): void {
    this.#wasThere = false
  }

  /** To be called once a second. */
  tick(): void {
    if (this.#rounds === 0 || this.#timer !== null || Date.now() - this.#lastHeal <= PEACE) return
    if (this.#rounds >= CONTESTED) this.#options.log.uncontested()
    this.#rounds = 0
  }

  /** Counts, tells, and heals. */
  #drifted(what: string, change: ForeignChange | null): void {
    if (this.#isStopped) return
    if (this.#options.controller.inForce !== null) this.#inSync = false
    if (change?.damage !== 'rules') this.#damage = 'everything'
    if (this.#timer !== null) return
    this.#count++
    const healIn = this.#healSoon()
    this.#options.log.drift(what, change, healIn)
    if (++this.#rounds === CONTESTED) this.#options.log.contested(change, healIn)
  }

  /** At once the first time, then more and more slowly. Answers in how many milliseconds. */
  #healSoon(): number {
    if (Date.now() - this.#lastHeal > PEACE) this.#pause = 0
    const healIn = this.#pause
    if (this.#timer !== null) return healIn
    this.#timer = setTimeout(() => void this.#heal(), healIn)
    this.#pause = Math.min(Math.max(this.#pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
    return healIn
  }

  async #heal(): Promise<void> {
    const { controller, enforcer, log, onWrittenAnew } = this.#options
    await controller.exclusively(async () => {
      this.#lastHeal = Date.now()
      this.#timer = null
      const damage = this.#damage
      this.#damage = 'rules'
      try {
        await enforcer.restore(damage)
        if (damage === 'everything') onWrittenAnew()
        this.#inSync = controller.inForce === null ? null : true
        this.#complaint = ''
        log.healed()
      } catch (error) {
        // What was changed is still as somebody else left it, even where the mark of the table is ours.
        if (this.#damage === 'rules') this.#damage = damage
        if (!this.#isStopped) this.#healSoon()
        this.unreadable(error as Error)
      }
    })
  }
}

/**
 * The memory of attempts: the latest in detail, and sums of each machine and of each policy. It is written once a second
 * at most, and never in anybody's way: what cannot be written waits in bounded memory, what finds no room there is
 * counted, and a damaged file is set aside. Kernel counters stand in the same rows as the attempts that they stood for,
 * so that the next run counts on from there, whenever this one ends.
 *
 *             add, count                 flush
 *   attempts ───────────► Pending ─────────────────► attempts.db ───► recent, series, top
 *                            ▲   cannot be written │
 *                            └─────────────────────┘
 */
import type { Attempt } from '../watch/attempt.ts'
import type { SourceDelta } from '../watch/source-counters.ts'
import { AttemptsDatabase, isUnusable, setAside } from './attempts-database.ts'
import { Ledger } from './attempts-ledger.ts'
import {
  type Label,
  type MachineName,
  machineKey,
  PENDING_LIMITS,
  Pending,
  type PendingLimits,
} from './attempts-pending.ts'
import {
  type Machine,
  type Point,
  type RecentAttempt,
  type RecentQuery,
  recent,
  type Saved,
  type SeriesOf,
  type Span,
  saved,
  seen,
  series,
  type TopQuery,
  top,
  topDestinations,
} from './attempts-query.ts'
import { forgetMachines, forgetOld, WRITE_LIMITS, type WriteLimits, writePending } from './attempts-write.ts'

export interface AttemptLogOptions {
  readonly path: string
  /** Milliseconds for which sums are kept, and attempts in detail. */
  readonly retain: number
  readonly retainDetail: number
  /** Attempts kept in detail at most. */
  readonly details?: number
  /** Bytes of the file at most, about. */
  readonly bytes?: number
  readonly limits?: Partial<PendingLimits & WriteLimits>
  /** Numbers from 0 to below 1, for fair samples. */
  readonly random?: () => number
  /** Told once, until it works again. */
  readonly onFailed: (error: Error) => void
  readonly onRecovered: (lost: Lost) => void
  readonly onSetAside: (error: Error, where: string) => void
}

/** What is not remembered although it happened. */
export interface Lost {
  /** Attempts told of whose detail was not kept: too many in a second, or not written. */
  readonly details: number
  /** Attempts that are in the sums of their policies, and in none of a machine. */
  readonly unattributed: number
}

/** The memory cannot be read now. */
export class HistoryUnavailableError extends Error {}

const DETAILS = 100_000
const BYTES = 2 ** 30
const HOUR = 3_600_000
/** The kernel forgets a machine after a day: where its counter stood before that tells nothing. */
const COUNTERS_KEPT = 2 * 86_400_000
const MAX_SAVED = 1_000_000

export class AttemptLog {
  readonly #options: AttemptLogOptions
  readonly #limits: PendingLimits & WriteLimits
  readonly #pending: Pending
  #ledger = new Ledger()
  #database: AttemptsDatabase | null = null
  #failure: Error | null = null
  #lost: { details: number; unattributed: number } = { details: 0, unattributed: 0 }
  #lostBefore: Lost = { details: 0, unattributed: 0 }
  #minute = 0
  #newInMinute = 0
  #tidied = 0

  constructor(options: AttemptLogOptions) {
    this.#options = options
    this.#limits = { ...PENDING_LIMITS, ...WRITE_LIMITS, ...options.limits }
    this.#pending = new Pending(options.random ?? Math.random, this.#limits)
  }

  /** Why nothing can be written at present; null when all is well. */
  get failure(): Error | null {
    return this.#failure
  }

  /** Machines that wait to be written. */
  get waiting(): number {
    return this.#pending.machines.size
  }

  get lost(): Lost {
    return { ...this.#lost }
  }

  /** Takes up what an earlier run left. Call it once, first. `now` is in milliseconds since the epoch. */
  restore(now: number): Saved {
    try {
      const found = this.#usable((database) => saved(database, now - COUNTERS_KEPT, MAX_SAVED))
      this.#ledger = new Ledger(found.machines.map((one) => [machineKey(one), one.balance]))
      return found
    } catch (error) {
      this.#failed(error as Error)
      return { totals: null, machines: [] }
    }
  }

  /** An attempt that was told; `machine` is who made it. */
  add(attempt: Attempt, machine: MachineName): void {
    const { policy, verdict, because, time } = attempt
    this.#pending.addLabelled({ policy, verdict, because }, time, { attempts: 0, told: 1 })
    this.#pending.addDetail(attempt)
    if (!this.#pending.hasRoomFor(machine, time)) {
      this.#lost.unattributed++
      return
    }
    const key = machineKey(machine)
    const credit = this.#ledger.told(key)
    this.#pending.addTold(machine, attempt, this.#ledger.balance(key), credit)
  }

  /** A reading of all counters of machines begins. */
  beginReading(): void {
    this.#ledger.begin()
  }

  /** What a machine's counter has grown by; `time` is the one for which it counts. */
  count(delta: SourceDelta, time: number, label: Label | null): void {
    const key = machineKey(delta)
    if (!this.#pending.hasRoomForCount(delta)) {
      this.#lost.unattributed += delta.attempts
      return
    }
    const credit = this.#ledger.counted(key, delta.attempts)
    const counted = { time, label, kernel: delta.packets }
    this.#pending.addCounted(delta, counted, this.#ledger.balance(key), credit)
  }

  /** All counters of machines have been read since `beginReading`. */
  endReading(time: number): void {
    for (const key of this.#ledger.settle()) {
      const allowed = key.startsWith('+')
      const name = { source: allowed ? key.slice(1) : key, allowed }
      if (this.#pending.hasRoomForCount(name)) this.#pending.setBalance(name, time, this.#ledger.balance(key))
    }
  }

  /** Attempts of a machine that were told, and that its counter had not got when it was read. */
  toldSinceReading(machine: MachineName): number {
    return Math.max(0, -this.#ledger.balance(machineKey(machine)))
  }

  /** What the kernel's total with this id has grown by, and where it stands. */
  countTotal(id: string, label: Label, time: number, attempts: number, packets: number): void {
    this.#pending.setTotal(id, packets)
    if (attempts > 0) this.#pending.addLabelled(label, time, { attempts, told: 0 })
  }

  /** Where the kernel's total stands when nobody knows since when it counts. */
  beginTotal(id: string, packets: number): void {
    this.#pending.setTotal(id, packets)
  }

  /** Writes what has come together, and forgets a little of what is too old. Never throws. */
  flush(now: number): void {
    this.#pending.endMinute(now)
    const minute = Math.floor(now / 60_000)
    if (minute !== this.#minute) {
      this.#minute = minute
      this.#newInMinute = 0
    }
    try {
      const { machines, unattributed, newMachines } = this.#usable((database) => this.#write(database, now))
      this.#newInMinute += newMachines
      this.#lost.unattributed += unattributed
      this.#lost.details += this.#pending.leftOut
      this.#pending.clear(machines)
      this.#pending.clearDetails()
      if (this.#failure !== null) this.#recovered()
    } catch (error) {
      this.#failed(error as Error)
      // The sums wait, the details would be too many.
      this.#lost.details += this.#pending.leftOut + this.#pending.details.length
      this.#pending.clearDetails()
    }
  }

  /** Writes all that waits, and closes the file. */
  finish(now: number): void {
    this.#pending.endMinute(now + 60_000)
    do this.flush(now)
    while (!this.#pending.isEmpty && this.#failure === null)
    this.close()
  }

  close(): void {
    this.#database?.close()
    this.#database = null
  }

  /** @throws HistoryUnavailableError as all questions do */
  recent(query: RecentQuery): RecentAttempt[] {
    return this.#ask((database) => recent(database, query))
  }

  series(of: SeriesOf, span: Span): Point[] {
    return this.#ask((database) => series(database, of, span))
  }

  top(query: TopQuery): Machine[] {
    return this.#ask((database) => top(database, query))
  }

  seen(source: string): ReturnType<typeof seen> {
    return this.#ask((database) => seen(database, source))
  }

  topDestinations(source: string, span: Pick<Span, 'from' | 'to'>, limit: number) {
    return this.#ask((database) => topDestinations(database, source, span, limit))
  }

  #write(database: AttemptsDatabase, now: number) {
    const { retain, retainDetail, details = DETAILS, bytes = BYTES } = this.#options
    const { newPerMinute, machinesAtOnce, machines } = this.#limits
    return database.inTransaction(() => {
      const mayAdd = newPerMinute - this.#newInMinute
      const written = writePending(database, this.#pending, mayAdd, machinesAtOnce)
      const keep = { retain, retainDetail: Math.min(retain, retainDetail), details, bytes }
      forgetOld(database, now, keep)
      if (now - this.#tidied >= HOUR) {
        forgetMachines(database, now, retain, machines)
        this.#tidied = now
      }
      return written
    })
  }

  /** Works on the file, on a new one where it is beyond use. @throws Error */
  #usable<T>(work: (database: AttemptsDatabase) => T): T {
    try {
      return work(this.#open())
    } catch (error) {
      if (!isUnusable(error)) throw error
      this.close()
      this.#options.onSetAside(error as Error, setAside(this.#options.path))
      return work(this.#open())
    }
  }

  #open(): AttemptsDatabase {
    this.#database ??= new AttemptsDatabase(this.#options.path)
    return this.#database
  }

  #ask<T>(question: (database: AttemptsDatabase) => T): T {
    try {
      return this.#usable(question)
    } catch (error) {
      throw new HistoryUnavailableError(`the history of attempts cannot be read: ${(error as Error).message}`)
    }
  }

  #failed(error: Error): void {
    if (this.#failure === null) {
      this.#lostBefore = this.lost
      this.#options.onFailed(error)
    }
    this.#failure = error
    // The file may have been moved, or its disk be back.
    this.close()
  }

  #recovered(): void {
    this.#failure = null
    const { details, unattributed } = this.#lost
    this.#options.onRecovered({
      details: details - this.#lostBefore.details,
      unattributed: unattributed - this.#lostBefore.unattributed,
    })
  }
}

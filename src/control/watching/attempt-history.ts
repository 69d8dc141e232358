/**
 * Fills the memory of attempts from what the monitor sees: each attempt as it is told, the kernel's totals each second,
 * and its counters of machines once a minute, when something happened at all, or sooner, when much of it was not told.
 */
import { setImmediate } from 'node:timers/promises'
import type { LearnedElement } from '../../compile/remembered.ts'
import type { Total, TotalOf } from '../../compile/ruleset.ts'
import { governingPolicy, verdictOf } from '../../policy/decide.ts'
import { formatPrefix, type Prefix, parsePrefix, truncate } from '../../policy/prefix.ts'
import type { AttemptLog } from '../../store/attempts.ts'
import { type Label, machineKey } from '../../store/attempts-pending.ts'
import type { Attempt } from '../../watch/attempt.ts'
import { heaviestFirst, lightest } from '../../watch/lightest.ts'
import { learnedSet, learnedSetOf, SourceCounters, type SourceDelta } from '../../watch/source-counters.ts'
import type { Controller } from '../controller.ts'
import { ReadingSchedule } from './reading-schedule.ts'

/** What one machine did since the reading before, by the kernel's exact count. */
export interface Tally {
  readonly machine: Prefix
  readonly allowed: boolean
  /** The policy that governs it; null for a relay or an exempt host, or when there is none any more. */
  readonly policy: string | null
  readonly verdict: Attempt['verdict']
  readonly attempts: number
  /** Where the kernel's counter stands. */
  readonly packets: number
  /** Of the reading, in milliseconds since the epoch. */
  readonly time: number
}

export interface AttemptHistoryOptions {
  readonly log: AttemptLog
  readonly controller: Pick<Controller, 'exclusively' | 'inForce'>
  /** All elements of a learned set. */
  readonly readSet: (set: string) => Promise<readonly LearnedElement[]>
  /** Makes the kernel forget machines of a learned set. */
  readonly forget: (set: string, addresses: readonly string[]) => Promise<void>
  /** Machines in all learned sets together whose counters are followed. */
  readonly maxSources: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly onTally?: (tallies: readonly Tally[]) => void
  readonly onUnreadable: (error: Error) => void
}

/** What one IPv6 machine is where no policy says it: what the kernel counts relays and exempt hosts by. */
const ALLOWED_IPV6_PREFIX = 64

/** Machines looked at before others get their turn. */
const BATCH = 1_000
/** While more wait to be written, no more are looked at. */
const MAX_WAITING = 5_000

export class AttemptHistory {
  readonly log: AttemptLog
  readonly #options: AttemptHistoryOptions
  readonly #counters: SourceCounters
  readonly #schedule = new ReadingSchedule()
  /** By id, as the kernel counts them. */
  readonly #totals: Map<string, number>
  /** What the counters stand at says nothing as long as nobody knows where they stood before. */
  #knowsTotals: boolean
  #knowsSources: boolean
  /** In this run. */
  #hasRead = false
  /** What an earlier run was told of machines, and had not read in their counters yet. */
  readonly #toldBefore = new Map<string, number>()
  #reading: Promise<void> | null = null
  #isTicking = false
  #isStopping = false
  #written: () => void = () => {}
  #lengths: { readonly model: unknown; readonly byPolicy: ReadonlyMap<string, number> } | null = null

  constructor(options: AttemptHistoryOptions) {
    this.#options = options
    this.log = options.log
    this.#counters = new SourceCounters(options.maxSources)
    const { totals, machines } = this.log.restore(options.now())
    this.#totals = new Map(totals ?? [])
    this.#knowsTotals = totals !== null
    this.#knowsSources = totals !== null
    for (const { machine, source, allowed, kernel, balance } of machines) {
      if (kernel !== null) this.#counters.remember(machine, allowed, kernel)
      if (balance < 0) this.#toldBefore.set(machineKey({ source, allowed }), -balance)
    }
  }

  /** Reads where the counters of machines stand; to be called before the first attempt is told. */
  async begin(): Promise<void> {
    if (this.#options.controller.inForce === null) return
    const time = this.#schedule.first(this.#options.now())
    try {
      await this.#read(time)
      // Nobody listened: what was counted until now will not be told.
      this.log.beginReading()
      this.log.endReading(time)
    } catch (error) {
      this.#schedule.notRead()
      this.#options.onUnreadable(error as Error)
    }
  }

  /** How far the kernel's counter of a machine (in canonical text) has been read; null: not at all. */
  standOf(source: string, allowed: boolean): { readonly packets: number; readonly told: number } | null {
    const machine = this.#knowsSources && this.#hasRead ? parsePrefix(source) : ''
    if (typeof machine === 'string') return null
    return {
      packets: this.#counters.standOf(machine, allowed),
      told: this.log.toldSinceReading({ source, allowed }),
    }
  }

  observe(attempt: Attempt): void {
    const allowed = attempt.verdict === 'allow'
    if (!allowed) this.#schedule.addUntold(-1)
    const length = attempt.source.family === 4 ? 32 : this.#ipv6Prefix(attempt.policy)
    this.log.add(attempt, { source: formatPrefix(truncate(attempt.source, length)), allowed })
  }

  /** Takes a reading of the kernel's totals. */
  look(totals: readonly Total[], reading: ReadonlyMap<number, number>): void {
    const now = this.#options.now()
    for (const { id, what } of totals) {
      const label = labelOf(what)
      if (label === null) continue
      const key = String(id)
      const packets = reading.get(id) ?? 0
      const before = this.#totals.get(key)
      if (packets === before) continue
      this.#totals.set(key, packets)
      if (!this.#knowsTotals) {
        this.log.beginTotal(key, packets)
        continue
      }
      const attempts = before === undefined || packets < before ? packets : packets - before
      if (attempts > 0) this.#schedule.happened()
      if (label.verdict !== 'allow') this.#schedule.addUntold(attempts)
      this.log.countTotal(key, label, now, attempts, packets)
    }
    this.#knowsTotals = true
  }

  /** Writes, and starts a reading of machines when one is due. To be called once a second. */
  tick(now: number): void {
    this.#isTicking = true
    this.log.flush(now)
    this.#written()
    const isUrgent = this.#schedule.isUrgent(now)
    if (this.#reading !== null || this.log.failure !== null || this.#options.controller.inForce === null)
      return
    const time = this.#schedule.begin(now, isUrgent)
    if (time === null) return
    this.#reading = this.#read(time)
      .catch((error: Error) => {
        this.#schedule.happened()
        this.#options.onUnreadable(error)
      })
      .finally(() => {
        this.#reading = null
      })
  }

  /** Takes the count of one machine that somebody asked the kernel for. */
  countOne(machine: Prefix, allowed: boolean, address: string, packets: number): void {
    if (!this.#knowsSources || this.#reading !== null || this.log.failure !== null) return
    const delta = this.#counters.readOne(learnedSetOf(machine, allowed), { address, packets })
    if (delta !== null) this.#take([delta], this.#options.now())
  }

  /** Writes what is left, when everything else has ended. */
  async stop(): Promise<void> {
    this.#isStopping = true
    this.#written()
    await this.#reading
    this.log.finish(this.#options.now())
  }

  /** `time` is the one that what was counted counts for. */
  async #read(time: number): Promise<void> {
    const { controller } = this.#options
    const sets = (controller.inForce?.ruleset.learned ?? []).filter(({ name }) => learnedSet(name) !== null)
    this.log.beginReading()
    for (const { name, size } of sets) {
      // Never while a change is under way: a table made anew may begin with counts that are older than ours. A change
      // that waits already comes first.
      const { elements, forgotten } = await controller.exclusively(() => this.#readAndMakeRoom(name, size))
      const batch: SourceDelta[] = []
      for (const delta of this.#counters.read(name, elements)) {
        batch.push(delta)
        if (batch.length === BATCH) {
          this.#takeUnlessFirst(batch.splice(0), time)
          await setImmediate()
          await this.#room()
          if (this.#isStopping) return
        }
      }
      this.#takeUnlessFirst(batch, time)
      this.#forget([...this.#counters.forget(name, forgotten)], time)
    }
    if (this.#knowsSources) this.log.endReading(time)
    this.#knowsSources = true
    this.#hasRead = true
  }

  /** Their counters begin at nothing. */
  #forget(deltas: readonly SourceDelta[], time: number): void {
    for (const delta of deltas) this.log.count(delta, time, null)
    if (deltas.length > 0)
      this.#options.onTally?.(deltas.map((delta) => tallyOf(delta, this.#labelOfMachine(delta), 0, time)))
  }

  /** At once, so that as little as possible is counted in between and forgotten with the rest. */
  async #readAndMakeRoom(name: string, size: number) {
    const { readSet, forget, onUnreadable } = this.#options
    // Whoever did most is judged first: in a flood the rest takes a while.
    const elements = heaviestFirst(await readSet(name))
    const light = lightest(elements, size)
    if (light.length === 0) return { elements, forgotten: light }
    try {
      await forget(name, light)
      return { elements, forgotten: light }
    } catch (error) {
      // Whoever was there a moment ago may be gone by itself: the next reading makes room.
      onUnreadable(error as Error)
      return { elements, forgotten: [] }
    }
  }

  /** So that what is read waits in the kernel's answer, and not a second time in what is to be written. */
  async #room(): Promise<void> {
    while (this.log.waiting > MAX_WAITING && !this.#isStopping) {
      if (this.#isTicking) {
        await new Promise<void>((resolve) => {
          this.#written = resolve
        })
      } else if (this.log.failure === null) this.log.flush(this.#options.now())
      else return
    }
  }

  #takeUnlessFirst(deltas: readonly SourceDelta[], time: number): void {
    if (this.#knowsSources) this.#take(deltas, time)
    else for (const delta of deltas) this.log.count({ ...delta, attempts: 0 }, time, null)
  }

  #take(deltas: readonly SourceDelta[], time: number): void {
    const tallies = deltas.flatMap((delta): Tally[] => {
      const label = this.#labelOfMachine(delta)
      this.log.count(delta, time, label)
      const attempts = this.#unknownOf(delta)
      return attempts === 0 ? [] : [tallyOf(delta, label, attempts, time)]
    })
    if (tallies.length > 0) this.#options.onTally?.(tallies)
  }

  /** Of what was counted, that of which no earlier run was told. */
  #unknownOf(delta: SourceDelta): number {
    const key = machineKey(delta)
    const before = this.#toldBefore.get(key) ?? 0
    this.#toldBefore.delete(key)
    return Math.max(0, delta.attempts - before)
  }

  /** For machines of which nothing was told. */
  #labelOfMachine({ machine, allowed }: SourceDelta): Label | null {
    if (allowed) return { policy: null, verdict: 'allow', because: null }
    const { inForce } = this.#options.controller
    const policy = inForce === null ? null : governingPolicy(inForce.model, machine)?.policy
    if (policy == null) return null
    return { policy: policy.name, verdict: verdictOf(policy, machine.family), because: null }
  }

  #ipv6Prefix(policy: string | null): number {
    const model = this.#options.controller.inForce?.model
    if (model === undefined || policy === null) return ALLOWED_IPV6_PREFIX
    if (this.#lengths?.model !== model) {
      const byPolicy = new Map(model.policies.map(({ name, thresholds }) => [name, thresholds.ipv6Prefix]))
      this.#lengths = { model, byPolicy }
    }
    return this.#lengths.byPolicy.get(policy) ?? ALLOWED_IPV6_PREFIX
  }
}

function tallyOf(delta: SourceDelta, label: Label | null, attempts: number, time: number): Tally {
  const { machine, allowed, packets } = delta
  const { policy = null, verdict = 'block' } = label ?? {}
  return { machine, allowed, policy, verdict, attempts, packets, time }
}

/** null for a total that counts something else than attempts. */
function labelOf(what: TotalOf): Label | null {
  if (what.of === 'attempts') return { policy: what.policy, verdict: what.verdict, because: null }
  if (what.of === 'allowed') return { policy: null, verdict: 'allow', because: what.because }
  return null
}

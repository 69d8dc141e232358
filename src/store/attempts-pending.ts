/**
 * What is to be written at the next opportunity, in bounded memory. All that belongs to one machine is written together,
 * so that a crash never leaves a counter without the attempts that it stands for.
 */
import type { Prefix } from '../policy/prefix.ts'
import type { Attempt } from '../watch/attempt.ts'
import { LEVELS, levelOf, spanStart } from './attempts-levels.ts'

/** What became of attempts, and by whose word. */
export type Label = Pick<Attempt, 'policy' | 'verdict' | 'because'>

/** One machine in one role: relays and exempt hosts are kept apart from what a policy governs. */
export interface MachineName {
  /** An address or an IPv6 prefix, in canonical text. */
  readonly source: string
  readonly allowed: boolean
}

export interface Sum {
  attempts: number
  told: number
  /** Distinct destinations told of; of several minutes, the most in one. */
  destinations: number
}

export interface PendingMachine extends MachineName {
  firstSeen: number
  lastSeen: number
  label: Label | null
  /** By the start of the minute, in seconds since the epoch. */
  readonly minutes: Map<number, Sum>
  /** See `Ledger`; null: as it was. */
  balance: number | null
  /** Where the kernel's counter stands; null: not read. */
  kernel: number | null
  /** By the start of the day and the destination. */
  readonly destinations: { readonly day: number; readonly destination: Prefix; readonly attempts: number }[]
}

/** By label and minute. */
export interface PendingLabel {
  readonly label: Label
  readonly minutes: Map<number, Sum>
}

export interface PendingLimits {
  /** Attempts kept in detail for one flush; of more, a fair sample. */
  readonly details: number
  /** Machines waiting because of events, and of counters together. */
  readonly toldMachines: number
  readonly machines: number
  /** Minutes waiting for one machine: more come together only while nothing can be written. */
  readonly minutes: number
}

export const PENDING_LIMITS: PendingLimits = {
  details: 2_000,
  toldMachines: 20_000,
  machines: 150_000,
  minutes: 60,
}

/** Distinct destinations counted for a machine in a minute, and for all of them together. */
const MAX_FAN_OUT = 64
const MAX_NAMES = 50_000
/** Machines whose destinations are counted. */
const MAX_SPREADERS = 10_000
/** Minutes waiting for one label. */
const MAX_LABEL_MINUTES = 1_440
/** Destinations of a machine's minute that are kept by name. */
const TOP_DESTINATIONS = 5

const [MINUTE] = LEVELS as [(typeof LEVELS)[number]]
const DAY = levelOf('day')

export function machineKey({ source, allowed }: MachineName): string {
  return allowed ? `+${source}` : source
}

export class Pending {
  readonly #limits: PendingLimits
  readonly #random: () => number
  #details: Attempt[] = []
  /** Attempts since the last flush that were candidates for detail. */
  #candidates = 0
  readonly #machines = new Map<string, PendingMachine>()
  readonly #labels = new Map<string, PendingLabel>()
  readonly #totals = new Map<string, number>()
  /** Of the current minute: how often each machine tried each destination. */
  readonly #fanOut = new Map<string, Map<number | bigint, { destination: Prefix; attempts: number }>>()
  #names = 0
  #minute = 0

  /** `random` gives numbers from 0 to below 1. */
  constructor(random: () => number, limits: PendingLimits = PENDING_LIMITS) {
    this.#random = random
    this.#limits = limits
  }

  get isEmpty(): boolean {
    return (
      this.#details.length === 0 &&
      this.#machines.size === 0 &&
      this.#labels.size === 0 &&
      this.#totals.size === 0
    )
  }

  get machines(): ReadonlyMap<string, PendingMachine> {
    return this.#machines
  }

  get labels(): Iterable<PendingLabel> {
    return this.#labels.values()
  }

  /** Where the kernel's totals stand, by their ids. */
  get totals(): ReadonlyMap<string, number> {
    return this.#totals
  }

  /** In the order of their times. */
  get details(): readonly Attempt[] {
    return this.#details.sort((a, b) => a.time - b.time)
  }

  /** Attempts that are not among the details. */
  get leftOut(): number {
    return this.#candidates - this.#details.length
  }

  /** A sample in which each attempt of this flush is as likely to be as any other (Vitter's algorithm R). */
  addDetail(attempt: Attempt): void {
    this.#candidates++
    if (this.#details.length < this.#limits.details) this.#details.push(attempt)
    else {
      const place = Math.floor(this.#random() * this.#candidates)
      if (place < this.#details.length) this.#details[place] = attempt
    }
  }

  /** An attempt that was told; `credit` is what it adds to the exact number. */
  addTold(name: MachineName, attempt: Attempt, balance: number, credit: number): void {
    const { time, policy, verdict, because } = attempt
    const label = { policy, verdict, because }
    const machine = this.#machine(name, time)
    machine.balance = balance
    machine.label = label
    this.#seen(machine, time)
    const sum = sumOf(machine.minutes, time)
    sum.attempts += credit
    sum.told++
    sum.destinations = Math.max(sum.destinations, this.#spread(machineKey(name), attempt))
  }

  /** Attempts of all machines that a policy (or what else decided) made something of. */
  addLabelled(label: Label, time: number, { attempts, told }: Pick<Sum, 'attempts' | 'told'>): void {
    const key = `${label.verdict} ${label.because} ${label.policy}`
    let pending = this.#labels.get(key)
    if (pending === undefined) {
      pending = { label, minutes: new Map() }
      this.#labels.set(key, pending)
    }
    const { minutes } = pending
    // After a day without a disk, what is new goes to the last minute that there is.
    const latest = minutes.size < MAX_LABEL_MINUTES ? null : [...minutes.keys()].at(-1)
    const sum = sumOf(minutes, latest == null ? time : latest * 1000)
    sum.attempts += attempts
    sum.told += told
  }

  /** What was counted for a machine. */
  addCounted(
    name: MachineName,
    { time, label, kernel }: { time: number; label: Label | null; kernel: number },
    balance: number,
    credit: number,
  ): void {
    const machine = this.#machine(name, time)
    machine.balance = balance
    machine.kernel = kernel
    machine.label ??= label
    if (credit > 0) {
      this.#seen(machine, time)
      sumOf(machine.minutes, time).attempts += credit
    }
  }

  /** A balance that has changed without an attempt. */
  setBalance(name: MachineName, time: number, balance: number): void {
    this.#machine(name, time).balance = balance
  }

  setTotal(id: string, packets: number): void {
    this.#totals.set(id, packets)
  }

  /** Whether an attempt that was told finds room. */
  hasRoomFor(name: MachineName, time: number): boolean {
    const machine = this.#machines.get(machineKey(name))
    if (machine === undefined) return this.#machines.size < this.#limits.toldMachines
    return machine.minutes.size < this.#limits.minutes || machine.minutes.has(spanStart(MINUTE, time))
  }

  /** The same for what was counted. */
  hasRoomForCount(name: MachineName): boolean {
    const machine = this.#machines.get(machineKey(name))
    if (machine === undefined) return this.#machines.size < this.#limits.machines
    return machine.minutes.size < this.#limits.minutes + 1
  }

  /** At the end of a minute its most tried destinations are to be written. */
  endMinute(now: number): void {
    const minute = spanStart(MINUTE, now)
    if (minute <= this.#minute) return
    const day = spanStart(DAY, this.#minute * 1000)
    for (const [key, tried] of this.#fanOut) {
      const allowed = key.startsWith('+')
      const name = { source: allowed ? key.slice(1) : key, allowed }
      if (!this.hasRoomForCount(name)) continue
      const top = [...tried.values()].sort((a, b) => b.attempts - a.attempts).slice(0, TOP_DESTINATIONS)
      const { destinations } = this.#machine(name, this.#minute * 1000)
      destinations.push(...top.map((one) => ({ day, ...one })))
    }
    this.#fanOut.clear()
    this.#names = 0
    this.#minute = minute
  }

  /** Details were written, or are given up. */
  clearDetails(): void {
    this.#details = []
    this.#candidates = 0
  }

  clear(machines: Iterable<string>): void {
    for (const key of machines) this.#machines.delete(key)
    this.#labels.clear()
    this.#totals.clear()
  }

  /** Distinct destinations that the machine tried in this minute. */
  #spread(key: string, { time, destination }: Attempt): number {
    this.endMinute(Math.max(time, this.#minute * 1000))
    let tried = this.#fanOut.get(key)
    if (tried === undefined) {
      if (this.#names >= MAX_NAMES || this.#fanOut.size >= MAX_SPREADERS) return 0
      tried = new Map()
      this.#fanOut.set(key, tried)
    }
    const known = tried.get(destination.address)
    if (known !== undefined) known.attempts++
    else if (tried.size < MAX_FAN_OUT && this.#names < MAX_NAMES) {
      tried.set(destination.address, { destination, attempts: 1 })
      this.#names++
    }
    return tried.size
  }

  #machine(name: MachineName, time: number): PendingMachine {
    const key = machineKey(name)
    let machine = this.#machines.get(key)
    if (machine === undefined) {
      machine = {
        ...name,
        firstSeen: time,
        lastSeen: time,
        label: null,
        minutes: new Map(),
        balance: null,
        kernel: null,
        destinations: [],
      }
      this.#machines.set(key, machine)
    }
    return machine
  }

  #seen(machine: PendingMachine, time: number): void {
    machine.firstSeen = Math.min(machine.firstSeen, time)
    machine.lastSeen = Math.max(machine.lastSeen, time)
  }
}

function sumOf(minutes: Map<number, Sum>, time: number): Sum {
  const minute = spanStart(MINUTE, time)
  let sum = minutes.get(minute)
  if (sum === undefined) {
    sum = { attempts: 0, told: 0, destinations: 0 }
    minutes.set(minute, sum)
  }
  return sum
}

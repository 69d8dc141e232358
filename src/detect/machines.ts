/**
 * Machines that a policy governs: what each did, and whether that is an incident. Those that have hardly done anything
 * wait among the newcomers, so that a flood from forged addresses is kept out of here.
 *
 * Of this machine's own attempts the kernel tells the user: on a shared host each user is a machine, and judged apart. What
 * the kernel counts, it counts by address: of that, the host itself has what was told of none of its users.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Case } from './case.ts'
import type { CaseBook } from './case-book.ts'
import type { FloodWatch } from './flood.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { type Judgement, judge } from './judge.ts'
import { machineKey } from './machine-key.ts'
import { Newcomers } from './newcomers.ts'
import { Tally } from './tally.ts'
import { MachineTraits, type Traits } from './traits.ts'

/** A governed attempt, as far as it is not in the attempt itself. */
export interface Governed {
  /** The machine that made it, in canonical text. */
  readonly machine: string
  readonly policy: string
  readonly thresholds: Thresholds
  /** Of that policy. */
  readonly flood: FloodWatch
}

/** What the kernel counted of a machine since it was read before. */
export interface Counted {
  readonly attempts: number
  /** Where its counter stands. */
  readonly packets: number
  readonly verdict: Incident['verdict']
  /** Of the reading, in milliseconds since the epoch. */
  readonly time: number
}

/** How far the kernel's counter of a machine has been read. */
export interface Stand {
  /** Where it stood. */
  readonly packets: number
  /** Attempts that were told since then. */
  readonly told: number
}

/** null: it has not been read at all. */
export type StandOf = (source: string) => Stand | null

interface Machine {
  readonly key: string
  readonly source: string
  readonly uid: number | null
  /** Of a host: attempts that were told of its users, and those who have an open incident. */
  toldOfUsers: number
  readonly users: Set<Machine>
  policy: string
  thresholds: Thresholds
  traits: MachineTraits
  readonly tally: Tally
  verdict: Incident['verdict']
  /** By the kernel's count, as far as it has been read. */
  counted: number
  countedAt: number
  /** Where its counter stood then; null: nobody knows. */
  counter: number | null
  /** The latest count that is old enough for all that was told of it to have arrived. */
  settled: number
  lost: number
  open: Case | null
}

/** Machines that are watched closely; of more, the one that was quiet longest is forgotten. */
export const MOST_MACHINES = 16_384
/** Attempts after which a newcomer is watched closely. */
const ENOUGH = 4
/** Milliseconds that an event may be under way after the kernel has counted it. */
const UNDER_WAY = 5_000
/** Of what was counted, so much must have been told for the details to speak. */
const TOLD_SHARE = 0.1

export class Machines {
  readonly #book: CaseBook
  readonly #most: number
  readonly #newcomers: Newcomers
  readonly #standOf: StandOf
  /** By key, in order of their latest attempts, the quietest first. */
  readonly #machines = new Map<string, Machine>()

  constructor(book: CaseBook, most = MOST_MACHINES, standOf: StandOf = () => null) {
    this.#book = book
    this.#standOf = standOf
    this.#most = most
    this.#newcomers = new Newcomers(most)
  }

  get watched(): number {
    return this.#machines.size + this.#newcomers.size
  }

  observe(attempt: Attempt, governed: Governed): IncidentEvent[] {
    const { machine: source, thresholds, policy, flood } = governed
    const { uid } = attempt
    const isLocal = uid !== null
    if (isLocal) this.#toldOfUser(attempt, governed)
    const key = machineKey(source, uid)
    let machine = this.#machines.get(key)
    if (machine === undefined) {
      const { isNew, known } = this.#newcomers.add(key, attempt, enough(thresholds))
      // Our own addresses are not forged, however many users there are.
      flood.add(source, isNew && !isLocal, attempt.time)
      if (known === null) return []
      machine = newMachine(source, uid, policy, thresholds, known[0] ?? attempt)
      if (!isLocal) this.#begin(machine, known.length)
      this.#enter(machine)
      for (const earlier of known.slice(0, -1)) add(machine, earlier)
    } else {
      flood.add(source, false, attempt.time)
      this.#touch(machine)
    }
    machine.policy = policy
    // A policy that changed its mind begins to watch afresh; what is open stays open.
    if (machine.thresholds !== thresholds && !isDeepStrictEqual(machine.thresholds, thresholds)) {
      machine.traits = new MachineTraits(thresholds)
      if (machine.open !== null) machine.open.resolveAfter = thresholds.resolveAfter
    }
    machine.thresholds = thresholds
    add(machine, attempt)
    const time = machine.tally.lastSeen
    const traits = machine.traits.at(time)
    return this.#judged(machine, judge(traits, thresholds), !isLocal && isHidden(traits, flood), time)
  }

  /** The kernel has counted so many attempts more of a machine. */
  counted(
    { attempts: more, packets, verdict, time }: Counted,
    { machine: source, policy, thresholds, flood }: Governed,
  ): IncidentEvent[] {
    let machine = this.#machines.get(source)
    const attempts = machine === undefined ? more : grownBy(machine, packets, more)
    const isMuch = attempts >= Math.max(thresholds.spamBot.connections, thresholds.spamBot.attempts)
    if (machine === undefined) {
      if (!isMuch || isHiddenByCount(attempts, flood)) return []
      machine = newMachine(source, null, policy, thresholds, { time, verdict })
      this.#enter(machine)
    }
    this.#settle(machine, time)
    machine.counted += attempts
    machine.countedAt = time
    machine.counter = packets
    if (!isMuch || isHiddenByCount(attempts, flood)) return []
    // In a flood a sample is told, by which nobody may stand out of it who does by count.
    const isTold = told(machine) >= TOLD_SHARE * machine.counted
    if (isTold && (machine.open !== null || machine.toldOfUsers > 0 || !flood.isActive)) return []
    // What is lost is a user's, and most likely of the one who is known to do so: no second incident says it better.
    if (machine.open === null && [...machine.users].some(isGrave)) return []
    machine.tally.lastSeen = Math.max(machine.tally.lastSeen, time)
    // Where most is told, the rest may be under way.
    if (!isTold) machine.lost = Math.max(machine.lost, machine.counted - told(machine))
    return this.#judged(machine, byCount(attempts, machine, thresholds), false, time)
  }

  tick(now: number): void {
    for (const machine of this.#machines.values()) {
      if (machine.open === null) {
        if (machine.users.size > 0 || machine.tally.lastSeen + memory(machine.thresholds) > now) continue
        this.#machines.delete(machine.key)
      } else this.#settle(machine, now)
    }
  }

  /**
   * To be called when the counters have been read for the first time, and before the first attempt is told: by what they
   * have grown since an earlier run saw them, nobody was told. `now` is in milliseconds since the epoch.
   */
  catchUp(now: number): void {
    for (const machine of this.#machines.values()) {
      const stand = this.#standOf(machine.source)
      if (machine.uid !== null || stand === null) continue
      machine.counted += grownBy(machine, stand.packets, 0)
      machine.countedAt = now - UNDER_WAY
      machine.counter = stand.packets
      this.#settle(machine, now)
    }
  }

  /** Forgets newcomers that came too long ago to count; `longest` is the longest window of all policies. */
  tidy(now: number, longest: number): void {
    this.#newcomers.forget(now - longest)
  }

  resume(incident: Incident, thresholds: Thresholds): void {
    const first = { time: incident.lastSeen, verdict: incident.verdict }
    const { source, policy, user } = incident
    const known = user === null ? this.#machines.get(source) : undefined
    const machine = known ?? newMachine(source, user?.uid ?? null, policy ?? '', thresholds, first)
    if (known === undefined) this.#enter(machine)
    const { tally } = machine
    machine.open = this.#book.resume(incident, {
      tally,
      thresholds,
      standing: () => this.#counterOf(machine),
      onClosed: () => this.#closed(machine),
    })
    this.#opened(machine, first)
    // Those of the users of one host tell of the same counter; the one that was written last is right.
    const host = user === null ? machine : this.#machines.get(source)
    if (host !== undefined && incident.counter !== null)
      host.counter = Math.max(host.counter ?? 0, incident.counter)
  }

  #judged(machine: Machine, judgement: Judgement | null, hidden: boolean, now: number): IncidentEvent[] {
    const { open, source, uid, policy, verdict, thresholds, tally, lost } = machine
    if (open !== null) {
      open.verdict = verdict
      open.lastSeen = tally.lastSeen
      open.lost = machine.lost
      this.#book.grew(open)
      return open.judge(judgement) ? [{ event: 'updated', time: now, incident: open.snapshot() }] : []
    }
    if (judgement === null || hidden) return []
    const opened = this.#book.open(
      {
        source,
        uid,
        policy,
        verdict,
        thresholds,
        judgement,
        tally,
        lost,
        standing: () => this.#counterOf(machine),
        onClosed: () => this.#closed(machine),
      },
      now,
    )
    machine.open = opened.one
    this.#opened(machine, { time: now, verdict })
    return [opened.event]
  }

  /** Of a machine that is watched from now on, what was told already may have been counted already. */
  #begin(machine: Machine, told: number): void {
    const stand = this.#standOf(machine.source)
    if (stand === null) return
    machine.counter = stand.packets
    machine.counted = told - stand.told
  }

  /** Where the kernel's counter stands when it has counted all that is known of the machine, and of a host's users. */
  #counterOf(machine: Machine): number | null {
    const host = machine.uid === null ? machine : this.#machines.get(machine.source)
    if (host === undefined || host.counter === null) return null
    return host.counter + told(host) + host.lost - host.counted
  }

  /**
   * What was counted, and is not told after a while, is lost. While more is told meanwhile, that is at most
   * underestimated; at rest it is exact.
   */
  #settle(machine: Machine, now: number): void {
    if (machine.countedAt + UNDER_WAY > now) return
    machine.settled = machine.counted
    machine.lost = Math.max(machine.lost, machine.settled - told(machine))
    const { open, lost } = machine
    if (open === null || open.lost === lost) return
    open.lost = lost
    this.#book.grew(open)
  }

  #enter(machine: Machine): void {
    this.#machines.set(machine.key, machine)
    if (this.#machines.size <= this.#most) return
    for (const { open, key, users } of this.#machines.values()) {
      if (open !== null || users.size > 0) continue
      this.#machines.delete(key)
      return
    }
  }

  #touch(machine: Machine): void {
    this.#machines.delete(machine.key)
    this.#machines.set(machine.key, machine)
  }

  /** From the first attempt on, so that nothing that was told counts as lost. */
  #toldOfUser(attempt: Attempt, { machine: source, policy, thresholds }: Governed): void {
    const host = this.#hostOf(source, policy, thresholds, attempt)
    host.toldOfUsers++
    host.tally.lastSeen = Math.max(host.tally.lastSeen, attempt.time)
    this.#touch(host)
  }

  #hostOf(
    source: string,
    policy: string,
    thresholds: Thresholds,
    first: Pick<Attempt, 'time' | 'verdict'>,
  ): Machine {
    const known = this.#machines.get(source)
    if (known !== undefined) return known
    const host = newMachine(source, null, policy, thresholds, first)
    this.#begin(host, 1)
    this.#enter(host)
    return host
  }

  #opened(machine: Machine, first: Pick<Attempt, 'time' | 'verdict'>): void {
    const { source, uid, policy, thresholds } = machine
    if (uid !== null) this.#hostOf(source, policy, thresholds, first).users.add(machine)
  }

  #closed(machine: Machine): void {
    const { key, source, uid, policy, thresholds, verdict, tally, toldOfUsers } = machine
    this.#machines.delete(key)
    if (uid !== null) this.#machines.get(source)?.users.delete(machine)
    if (toldOfUsers === 0) return
    // Its users go on: what was counted until now is done with, told or lost.
    const { counted, countedAt, counter, settled, users, lost } = machine
    const first = { time: tally.lastSeen, verdict }
    const known = {
      counted,
      countedAt,
      counter,
      settled,
      users,
      toldOfUsers: toldOfUsers + tally.told + lost,
    }
    this.#enter({ ...newMachine(source, null, policy, thresholds, first), ...known })
  }
}

function newMachine(
  source: string,
  uid: number | null,
  policy: string,
  thresholds: Thresholds,
  { time, verdict }: Pick<Attempt, 'time' | 'verdict'>,
): Machine {
  return {
    key: machineKey(source, uid),
    source,
    uid,
    toldOfUsers: 0,
    users: new Set(),
    policy,
    thresholds,
    traits: new MachineTraits(thresholds),
    tally: new Tally(time),
    verdict,
    counted: 0,
    countedAt: Number.POSITIVE_INFINITY,
    counter: null,
    settled: 0,
    lost: 0,
    open: null,
  }
}

function add({ traits, tally }: Machine, attempt: Attempt): void {
  // The clock may have been set back meanwhile.
  const time = Math.max(attempt.time, tally.lastSeen)
  traits.add(attempt, time)
  tally.add(attempt, time)
}

/** What the counter has grown by since it was looked at for the machine. One that came back smaller began afresh. */
function grownBy({ counter }: Machine, packets: number, otherwise: number): number {
  if (counter === null) return otherwise
  return packets < counter ? packets : packets - counter
}

function told({ tally, toldOfUsers }: Machine): number {
  return tally.told + toldOfUsers
}

/** Whose lost attempts need no other explanation. */
function isGrave({ open }: Machine): boolean {
  return open?.kind === 'spam-bot' || open?.kind === 'scanner'
}

/** While there is a flood, what does not stand out of it is a part of it. */
function isHidden({ fast }: Traits, flood: FloodWatch): boolean {
  return flood.isActive && !flood.standsOut(fast.attempts)
}

function isHiddenByCount(attempts: number, flood: FloodWatch): boolean {
  return flood.isActive && !flood.standsOutByCount(attempts)
}

function byCount(attempts: number, { tally, counted }: Machine, thresholds: Thresholds): Judgement {
  return {
    kind: 'spam-bot',
    confidence: 'likely',
    evidence: {
      rule: 'count',
      window: 60_000,
      attempts,
      connections: Math.min(attempts, counted),
      destinations: tally.destinations,
      sources: 1,
      limits: { attempts: Math.max(thresholds.spamBot.connections, thresholds.spamBot.attempts) },
      usual: null,
    },
  }
}

/** So many attempts that nothing can be judged sooner. */
function enough({ spamBot, misconfigured }: Thresholds): number {
  return Math.min(ENOUGH, spamBot.attempts, misconfigured.attempts)
}

/** Milliseconds after which what a machine did counts no more. */
export function memory({ spamBot, misconfigured, slowBot, scanner }: Thresholds): number {
  return Math.max(...[spamBot, misconfigured, slowBot, scanner].map(({ window }) => window))
}

/**
 * Machines that a policy governs: what each did, and whether that is an incident. Those that have hardly done anything
 * wait among the newcomers, so that a flood from forged addresses is kept out of here.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Count, StandOf } from './account.ts'
import type { CaseBook } from './case-book.ts'
import type { FloodWatch } from './flood.ts'
import type { Incident, IncidentEvent } from './incident.ts'
import { type Judgement, judge, judgeByCount, manyByCount } from './judge.ts'
import { add, isGrave, type Machine, memory, newMachine } from './machine.ts'
import { machineKey } from './machine-key.ts'
import { MachineTable } from './machine-table.ts'
import { Newcomers } from './newcomers.ts'
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
export interface Counted extends Count {
  readonly verdict: Incident['verdict']
}

/** Machines that are watched closely. */
export const MOST_MACHINES = 16_384
/** Attempts after which a newcomer is watched closely. */
const ENOUGH = 4

export class Machines {
  readonly #book: CaseBook
  readonly #standOf: StandOf
  readonly #newcomers: Newcomers
  readonly #machines: MachineTable

  constructor(book: CaseBook, most = MOST_MACHINES, standOf: StandOf = () => null) {
    this.#book = book
    this.#standOf = standOf
    this.#newcomers = new Newcomers(most)
    this.#machines = new MachineTable(most, standOf)
  }

  get watched(): number {
    return this.#machines.size + this.#newcomers.size
  }

  observe(attempt: Attempt, governed: Governed): IncidentEvent[] {
    const { machine: source, thresholds, policy, flood } = governed
    const { uid } = attempt
    const isLocal = uid !== null
    if (isLocal) this.#machines.toldOfUser(source, uid, policy, thresholds, attempt)
    let machine = this.#machines.get(source, uid)
    if (machine === undefined) {
      const { isNew, known } = this.#newcomers.add(machineKey(source, uid), attempt, enough(thresholds))
      // Our own addresses are not forged, however many users there are.
      flood.add(source, isNew && !isLocal, attempt.time)
      if (known === null) return []
      machine = newMachine(source, uid, policy, thresholds, known[0] ?? attempt)
      if (!isLocal) machine.account.begin(this.#standOf(source), known.length)
      this.#machines.enter(machine)
      for (const earlier of known.slice(0, -1)) add(machine, earlier)
    } else {
      flood.add(source, false, attempt.time)
      this.#machines.touch(machine)
    }
    machine.policy = policy
    // A policy that changed its mind begins to watch afresh; what is open stays open.
    if (machine.thresholds !== thresholds && !isDeepStrictEqual(machine.thresholds, thresholds)) {
      machine.traits = new MachineTraits(thresholds)
      if (machine.open !== null) machine.open.resolveAfter = thresholds.resolveAfter
    }
    machine.thresholds = thresholds
    machine.users?.add(null, attempt.time)
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
    const attempts = machine?.account.grownBy(packets, more) ?? more
    const isMuch = attempts >= manyByCount(thresholds.spamBot)
    if (machine === undefined) {
      if (!isMuch || isHiddenByCount(attempts, flood)) return []
      machine = newMachine(source, null, policy, thresholds, { time, verdict })
      this.#machines.enter(machine)
    }
    const { account, users } = machine
    account.count(attempts, packets, time)
    this.#noteLost(machine, time)
    if (!isMuch || isHiddenByCount(attempts, flood)) return []
    const whose = this.#whose(machine, time)
    // In a flood a sample is told, by which nobody may stand out of it who does by count.
    if (account.isTold && (whose.open !== null || users !== null || !flood.isActive)) return []
    // What is lost is a user's, and most likely of one who is known to do so: no second incident says it better.
    if (whose.open === null && [...machine.accused].some(isGrave)) return []
    whose.tally.lastSeen = Math.max(whose.tally.lastSeen, time)
    // Where most is told, the rest may be under way.
    if (!account.isTold) account.giveUp()
    this.#noteLost(machine, time)
    const judgement = judgeByCount(attempts, account.counted, whose.tally.destinations, thresholds)
    return this.#judged(whose, judgement, false, time)
  }

  tick(now: number): void {
    for (const machine of this.#machines.all()) {
      const { open, accused, account, tally, thresholds } = machine
      if (open !== null || accused.size > 0) {
        account.settle(now)
        this.#noteLost(machine, now)
      } else if (tally.lastSeen + memory(thresholds) <= now) this.#machines.forget(machine)
    }
  }

  /**
   * To be called when the counters have been read for the first time, and before the first attempt is told: by what they
   * have grown since an earlier run saw them, nobody was told. `now` is in milliseconds since the epoch.
   */
  catchUp(now: number): void {
    for (const machine of this.#machines.all()) {
      const stand = machine.uid === null ? this.#standOf(machine.source) : null
      if (stand === null) continue
      machine.account.catchUp(stand, now)
      this.#noteLost(machine, now)
    }
  }

  /** Forgets newcomers that came too long ago to count; `longest` is the longest window of all policies. */
  tidy(now: number, longest: number): void {
    this.#newcomers.forget(now - longest)
  }

  resume(incident: Incident, thresholds: Thresholds): void {
    const first = { time: incident.lastSeen, verdict: incident.verdict }
    const { source, policy, user, counter } = incident
    const uid = user?.uid ?? null
    const known = uid === null ? this.#machines.get(source) : undefined
    const machine = known ?? newMachine(source, uid, policy ?? '', thresholds, first)
    if (known === undefined) this.#machines.enter(machine)
    const { tally } = machine
    machine.open = this.#book.resume(incident, { tally, thresholds, ...this.#ties(machine) })
    this.#machines.opened(machine, first)
    // Those of the users of one host tell of the same counter.
    if (counter !== null) this.#machines.accountOf(machine)?.resume(counter)
  }

  #judged(machine: Machine, judgement: Judgement | null, hidden: boolean, now: number): IncidentEvent[] {
    const { open, source, uid, policy, verdict, thresholds, tally, lost } = machine
    if (open !== null) {
      open.verdict = verdict
      open.lastSeen = tally.lastSeen
      open.lost = lost
      this.#book.grew(open)
      return open.judge(judgement) ? [{ event: 'updated', time: now, incident: open.snapshot() }] : []
    }
    if (judgement === null || hidden) return []
    const subject = { source, uid, policy, verdict, thresholds, tally, lost }
    const opened = this.#book.open({ ...subject, judgement, ...this.#ties(machine) }, now)
    machine.open = opened.one
    this.#machines.opened(machine, { time: now, verdict })
    return [opened.event]
  }

  /** What its incident asks and tells of the machine. */
  #ties(machine: Machine) {
    return {
      standing: () => this.#machines.accountOf(machine)?.standing ?? null,
      onClosed: () => this.#machines.closed(machine),
    }
  }

  /** What was lost of a machine's account is most likely its own, or its only user's. */
  #noteLost(machine: Machine, now: number): void {
    const more = machine.account.takeLost()
    if (more === 0) return
    const whose = this.#machines.onlyUser(machine, now) ?? machine
    whose.lost += more
    if (whose.open === null) return
    whose.open.lost = whose.lost
    this.#book.grew(whose.open)
  }

  /** Who is judged by what was counted of a machine: itself, or its only user, who is watched closely from now on. */
  #whose(machine: Machine, now: number): Machine {
    const { source, policy, thresholds, verdict } = machine
    const uid = machine.users?.only(now) ?? null
    if (uid === null) return machine
    const known = this.#machines.get(source, uid)
    if (known !== undefined) return known
    const earlier = this.#newcomers.take(machineKey(source, uid))
    const user = newMachine(source, uid, policy, thresholds, earlier[0] ?? { time: now, verdict })
    for (const attempt of earlier) add(user, attempt)
    this.#machines.enter(user)
    return user
  }
}

/** While there is a flood, what does not stand out of it is a part of it. */
function isHidden({ fast }: Traits, flood: FloodWatch): boolean {
  return flood.isActive && !flood.standsOut(fast.attempts)
}

function isHiddenByCount(attempts: number, flood: FloodWatch): boolean {
  return flood.isActive && !flood.standsOutByCount(attempts)
}

/** So many attempts that nothing can be judged sooner. */
function enough({ spamBot, misconfigured }: Thresholds): number {
  return Math.min(ENOUGH, spamBot.attempts, misconfigured.attempts)
}

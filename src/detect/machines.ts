/**
 * Machines that a policy governs: what each did, and whether that is an incident. Those that have hardly done anything
 * wait among the newcomers, so that a flood from forged addresses is kept out of here.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { StandOf } from './account.ts'
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
export interface Counted {
  readonly attempts: number
  /** Where its counter stands. */
  readonly packets: number
  readonly verdict: Incident['verdict']
  /** Of the reading, in milliseconds since the epoch. */
  readonly time: number
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
    if (isLocal) this.#machines.toldOfUser(source, policy, thresholds, attempt)
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
    const { account, open } = machine
    account.count(attempts, packets, time)
    this.#noteLost(machine)
    if (!isMuch || isHiddenByCount(attempts, flood)) return []
    // In a flood a sample is told, by which nobody may stand out of it who does by count.
    if (account.isTold && (open !== null || machine.hasUsers || !flood.isActive)) return []
    // What is lost is a user's, and most likely of the one who is known to do so: no second incident says it better.
    if (open === null && [...machine.users].some(isGrave)) return []
    machine.tally.lastSeen = Math.max(machine.tally.lastSeen, time)
    // Where most is told, the rest may be under way.
    if (!account.isTold) account.giveUp()
    const judgement = judgeByCount(attempts, account.counted, machine.tally.destinations, thresholds)
    return this.#judged(machine, judgement, false, time)
  }

  tick(now: number): void {
    for (const machine of this.#machines.all()) {
      if (machine.open === null) {
        if (machine.users.size > 0 || machine.tally.lastSeen + memory(machine.thresholds) > now) continue
        this.#machines.forget(machine)
      } else {
        machine.account.settle(now)
        this.#noteLost(machine)
      }
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
      this.#noteLost(machine)
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
    const { open, source, uid, policy, verdict, thresholds, tally, account } = machine
    if (open !== null) {
      open.verdict = verdict
      open.lastSeen = tally.lastSeen
      open.lost = account.lost
      this.#book.grew(open)
      return open.judge(judgement) ? [{ event: 'updated', time: now, incident: open.snapshot() }] : []
    }
    if (judgement === null || hidden) return []
    const subject = { source, uid, policy, verdict, thresholds, tally, lost: account.lost }
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

  /** More may be lost than its incident says. */
  #noteLost({ open, account: { lost } }: Machine): void {
    if (open === null || open.lost === lost) return
    open.lost = lost
    this.#book.grew(open)
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

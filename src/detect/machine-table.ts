/**
 * Machines that are watched closely, in bounded memory. Of this machine's own attempts the kernel tells the user: on a shared
 * host each user is a machine, and judged apart. What the kernel counts, it counts by address: what nobody was told of is
 * the user's where there was only one lately, and else nobody's but the host's.
 */
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { StandOf } from './account.ts'
import { type First, type Machine, newMachine } from './machine.ts'
import { machineKey } from './machine-key.ts'
import { makeRoom } from './make-room.ts'
import { RecentUsers } from './recent-users.ts'

/** Milliseconds: see `RecentUsers`. */
const LATELY = 600_000

export class MachineTable {
  readonly #most: number
  readonly #standOf: StandOf
  /** By key, in order of their latest attempts, the quietest first. */
  readonly #machines = new Map<string, Machine>()

  /** Of more than `most` machines the one that was quiet longest is forgotten, unless it has an open incident. */
  constructor(most: number, standOf: StandOf) {
    this.#most = most
    this.#standOf = standOf
  }

  get size(): number {
    return this.#machines.size
  }

  get(source: string, uid: number | null = null): Machine | undefined {
    return this.#machines.get(machineKey(source, uid))
  }

  all(): Iterable<Machine> {
    return this.#machines.values()
  }

  enter(machine: Machine): void {
    this.#machines.set(machine.key, machine)
    makeRoom(this.#machines, this.#most, ({ open, accused }) => open !== null || accused.size > 0)
  }

  /** It made the latest attempt. */
  touch({ key }: Machine): void {
    const machine = this.#machines.get(key)
    if (machine === undefined) return
    this.#machines.delete(key)
    this.#machines.set(key, machine)
  }

  forget({ key }: Machine): void {
    this.#machines.delete(key)
  }

  /** An attempt of a user was told. From the first one on, so that nothing that was told counts as lost of the host. */
  toldOfUser(source: string, uid: number, policy: string, thresholds: Thresholds, attempt: Attempt): void {
    const host = this.#hostOf(source, policy, thresholds, attempt)
    usersOf(host).add(uid, attempt.time)
    host.account.tell()
    host.tally.lastSeen = Math.max(host.tally.lastSeen, attempt.time)
    this.touch(host)
  }

  /** The only user of a host lately, if that one is watched. */
  onlyUser(host: Machine, now: number): Machine | undefined {
    const uid = host.users?.only(now) ?? null
    return uid === null ? undefined : this.get(host.source, uid)
  }

  /** The host of a user, or the machine itself: the kernel's counter is that one's. */
  accountOf(machine: Machine): Machine['account'] | null {
    return machine.uid === null ? machine.account : (this.get(machine.source)?.account ?? null)
  }

  /** The machine has an incident from now on: as long as a user has one, the host is watched as well. */
  opened(machine: Machine, first: First): void {
    const { source, uid, policy, thresholds } = machine
    if (uid === null) return
    const host = this.#hostOf(source, policy, thresholds, first)
    host.accused.add(machine)
    usersOf(host).add(uid, first.time)
  }

  /** Its incident is over, and it is watched afresh. */
  closed(machine: Machine): void {
    const { source, uid, policy, thresholds, verdict, tally, account, users, accused } = machine
    this.forget(machine)
    if (uid !== null) this.get(source)?.accused.delete(machine)
    if (users === null) return
    // Its users go on: what was counted until now is done with, told or lost.
    account.giveUp()
    account.takeLost()
    const first = { time: tally.lastSeen, verdict }
    this.enter({ ...newMachine(source, null, policy, thresholds, first), account, users, accused })
  }

  #hostOf(source: string, policy: string, thresholds: Thresholds, first: First): Machine {
    const known = this.get(source)
    if (known !== undefined) return known
    const host = newMachine(source, null, policy, thresholds, first)
    host.account.begin(this.#standOf(source), 1)
    this.enter(host)
    return host
  }
}

function usersOf(host: Machine): RecentUsers {
  host.users ??= new RecentUsers(LATELY)
  return host.users
}

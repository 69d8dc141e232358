/**
 * What each machine is credited with, from two sources that tell of the same attempts: the kernel's counters, exact but
 * read once a minute, and events, at once but not all. The credit is always the larger of what was counted and what was
 * told, so an attempt shows as soon as it is told, and is not counted twice when the counter says so too.
 *
 * All it takes is one number for a machine: what was counted beyond what was told, negative for the other way round.
 * That the two are never read at the same instant is made good at the next reading:
 *
 * - what was told before the reading began and is not in it, the kernel has no counter for: it stays credited;
 * - what was counted by the reading before and still is not told will not be: later events are new ones.
 */

interface Entry {
  /** Counted and not told; negative: told and not counted. */
  balance: number
  /** Told since the reading began. */
  told: number
  /** Counted by this reading, and by those of single machines since the one before. */
  counted: number
}

/** Beyond it, attempts of further machines are credited when they are counted. */
const MAX_MACHINES = 100_000

export class Ledger {
  readonly #entries: Map<string, Entry>
  readonly #maxMachines: number

  /** Takes up the balances of an earlier run, by machine. */
  constructor(balances: Iterable<readonly [string, number]> = [], maxMachines = MAX_MACHINES) {
    this.#maxMachines = maxMachines
    this.#entries = new Map()
    for (const [machine, balance] of balances) {
      if (balance !== 0 && this.#entries.size < maxMachines)
        this.#entries.set(machine, { balance, told: 0, counted: 0 })
    }
  }

  /** An attempt was told; answers by how much the machine's credit grows: 0 or 1. */
  told(machine: string): number {
    const entry = this.#entry(machine)
    if (entry === null) return 0
    entry.told++
    entry.balance--
    return entry.balance < 0 ? 1 : 0
  }

  /** So many more were counted; answers by how much the machine's credit grows. */
  counted(machine: string, attempts: number): number {
    const entry = this.#entry(machine)
    if (entry === null) return attempts
    const before = Math.max(0, entry.balance)
    entry.balance += attempts
    entry.counted += attempts
    return Math.max(0, entry.balance) - before
  }

  /** A reading of all counters begins. */
  begin(): void {
    for (const entry of this.#entries.values()) entry.told = 0
  }

  /** All counters were read since `begin`; answers the machines whose balances are other than before. */
  settle(): string[] {
    const settled: string[] = []
    for (const [machine, entry] of this.#entries) {
      const balance = Math.min(Math.max(entry.balance, -entry.told), entry.counted)
      if (balance !== entry.balance) settled.push(machine)
      entry.balance = balance
      entry.counted = 0
      if (balance === 0) this.#entries.delete(machine)
    }
    return settled
  }

  balance(machine: string): number {
    return this.#entries.get(machine)?.balance ?? 0
  }

  #entry(machine: string): Entry | null {
    let entry = this.#entries.get(machine)
    if (entry === undefined) {
      if (this.#entries.size >= this.#maxMachines) return null
      entry = { balance: 0, told: 0, counted: 0 }
      this.#entries.set(machine, entry)
    }
    return entry
  }
}

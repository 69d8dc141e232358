/**
 * Readings of the kernel's learned sets to what was counted for each machine since the reading before. A counter that
 * came back smaller began afresh (its table was replaced, or its element had been forgotten), so all that it has is new.
 */
import { formatPrefix, type Prefix, parsePrefix } from '../policy/prefix.ts'

/** A counted element of a learned set, with its address as nft prints it. */
export interface Counted {
  readonly address: string
  readonly packets: number
}

/** What a machine did since the last reading. */
export interface SourceDelta {
  readonly machine: Prefix
  /** The canonical text of the machine. */
  readonly source: string
  /** Allowed to: a relay or an exempt host. */
  readonly allowed: boolean
  readonly attempts: number
  /** Where the kernel's counter stands. */
  readonly packets: number
}

/** The machines whose counters a learned set holds; null when it holds something else. */
export function learnedSet(name: string): { readonly allowed: boolean; readonly length: number } | null {
  const match = /^(sources|senders)(?:4|6-(\d{1,3}))$/.exec(name)
  if (match === null) return null
  return { allowed: match[1] === 'senders', length: Number(match[2] ?? 32) }
}

/** The set in which the kernel counts a machine. */
export function learnedSetOf({ family, length }: Prefix, allowed: boolean): string {
  const name = allowed ? 'senders' : 'sources'
  return family === 4 ? `${name}4` : `${name}6-${length}`
}

export class SourceCounters {
  /** By set and by address as nft prints it. */
  readonly #sets = new Map<string, Map<string, number>>()
  readonly #maxSources: number
  #size = 0
  #untracked = 0

  /** Most machines remembered, of all sets; counters of more are not looked at. */
  constructor(maxSources: number) {
    this.#maxSources = maxSources
  }

  /** Counters that the last reading left out because there were too many. */
  get untracked(): number {
    return this.#untracked
  }

  /** Where a counter stood when it was read; 0 where there was none. */
  standOf(machine: Prefix, allowed: boolean): number {
    return this.#sets.get(learnedSetOf(machine, allowed))?.get(addressOf(machine)) ?? 0
  }

  /** Where a counter stood in an earlier run. */
  remember(machine: Prefix, allowed: boolean, packets: number): void {
    this.#note(learnedSetOf(machine, allowed), addressOf(machine), packets)
  }

  /**
   * Takes a reading of a whole set: what is not in it is forgotten. Answers what has grown, as it goes: a set may have a
   * hundred thousand elements, and others want their turn. Nothing else may be read before the end.
   */
  *read(set: string, elements: readonly Counted[]): Generator<SourceDelta> {
    const before = this.#sets.get(set) ?? new Map<string, number>()
    this.#size -= before.size
    this.#sets.set(set, new Map())
    this.#untracked = 0
    for (const { address, packets } of elements) {
      const delta = this.#grown(set, address, before.get(address), packets)
      if (delta !== null) yield delta
    }
  }

  /** Takes a reading of one element. */
  readOne(set: string, { address, packets }: Counted): SourceDelta | null {
    return this.#grown(set, address, this.#sets.get(set)?.get(address), packets)
  }

  /**
   * The kernel was made to forget machines of a set: what it counts of them from now on begins at nothing. Answers where
   * their counters stand, as it goes.
   */
  *forget(set: string, addresses: readonly string[]): Generator<SourceDelta> {
    const counters = this.#sets.get(set)
    for (const address of addresses) {
      if (counters?.delete(address) !== true) continue
      this.#size--
      const machine = machineIn(set, address)
      if (machine !== null) yield { ...machine, attempts: 0, packets: 0 }
    }
  }

  #grown(set: string, address: string, before: number | undefined, packets: number): SourceDelta | null {
    if (!this.#note(set, address, packets)) {
      this.#untracked++
      return null
    }
    const attempts = before === undefined || packets < before ? packets : packets - before
    const machine = attempts === 0 ? null : machineIn(set, address)
    return machine === null ? null : { ...machine, attempts, packets }
  }

  #note(set: string, address: string, packets: number): boolean {
    let counters = this.#sets.get(set)
    if (counters === undefined) {
      counters = new Map()
      this.#sets.set(set, counters)
    }
    if (!counters.has(address)) {
      if (this.#size >= this.#maxSources) return false
      this.#size++
    }
    counters.set(address, packets)
    return true
  }
}

/** As nft prints it. */
function addressOf(machine: Prefix): string {
  return formatPrefix(machine).split('/')[0] ?? ''
}

/** Whom an element stands for; null when the set holds something else, or the address is none. */
function machineIn(set: string, address: string): Pick<SourceDelta, 'machine' | 'source' | 'allowed'> | null {
  const where = learnedSet(set)
  const machine = where === null ? '' : parsePrefix(`${address}/${where.length}`)
  if (where === null || typeof machine === 'string') return null
  return { machine, source: formatPrefix(machine), allowed: where.allowed }
}

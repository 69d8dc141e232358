/**
 * Keeps the kernel at a ruleset: applies changes as deltas where it knows what the kernel holds, as a replacement
 * where it does not, and keeps the last good ruleset as a file that `nft` alone can load at boot.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { difference, sizeOf } from '../compile/delta.ts'
import { countElements } from '../compile/lookup-tables.ts'
import { digestOf, renderChains, renderDelta, renderReplacement, TABLE } from '../compile/nft-script.ts'
import { type LearnedElement, type Remembered, renderRemembered } from '../compile/remembered.ts'
import type { Ruleset } from '../compile/ruleset.ts'
import { writeFileAtomically } from './atomic-file.ts'
import type { Damage } from './change-monitor.ts'
import { KernelError } from './kernel-error.ts'
import type { KernelState, Nft } from './nft.ts'

/** How a ruleset came into force. */
export interface Applied {
  readonly how: 'unchanged' | 'delta' | 'replacement'
  readonly digest: string
  /** Elements and chains sent; of a replacement, all of them. */
  readonly elements: number
  readonly chains: number
  /** The kernel has it, but the file for the next boot could not be written. */
  readonly bootFileError: Error | null
}

interface InForce {
  readonly ruleset: Ruleset
  readonly digest: string
}

export const BOOT_FILE = 'ruleset.nft'

/** The first line makes sure that there is something to delete. */
const REMOVAL = `table ${TABLE}\ndelete table ${TABLE}\n`

/** One at a time: the caller sees to it that no two applies overlap. */
export class Enforcer {
  readonly #nft: Nft
  readonly #stateDirectory: string | null
  #inForce: InForce | null = null

  /** Without a state directory nothing is kept for the next boot. */
  constructor(nft: Nft, stateDirectory: string | null) {
    this.#nft = nft
    this.#stateDirectory = stateDirectory
  }

  /** The ruleset that was last applied or found; null before the first apply. */
  get inForce(): InForce | null {
    return this.#inForce
  }

  /** Brings the kernel to the ruleset, also for the next boot; or leaves it as it was. @throws KernelError */
  async apply(ruleset: Ruleset): Promise<Applied> {
    const applied = await this.applyUntilBoot(ruleset)
    return { ...applied, bootFileError: await this.keepForBoot() }
  }

  /** The same, while the next boot brings what was kept for it before. @throws KernelError */
  async applyUntilBoot(ruleset: Ruleset): Promise<Applied> {
    const digest = digestOf(ruleset)
    const applied = await this.#change(ruleset, digest)
    this.#inForce = { ruleset, digest }
    return { ...applied, digest, bootFileError: null }
  }

  /** Keeps what is in force for the next boot; why it could not, or null. */
  async keepForBoot(): Promise<Error | null> {
    if (this.#stateDirectory === null || this.#inForce === null) return null
    try {
      const { text } = renderReplacement(this.#inForce.ruleset)
      await mkdir(this.#stateDirectory, { recursive: true, mode: 0o750 })
      await writeFileAtomically(join(this.#stateDirectory, BOOT_FILE), text, 0o640)
      return null
    } catch (error) {
      return error as Error
    }
  }

  /** What the kernel holds of ours now; null when there is no table. @throws KernelError */
  readState(): Promise<KernelState | null> {
    return this.#nft.readState()
  }

  /**
   * Puts right what somebody else changed: rules alone cost what rules cost, anything else the whole table.
   * @throws KernelError
   */
  async restore(damage: Damage): Promise<void> {
    if (this.#inForce === null) return
    const { ruleset } = this.#inForce
    if (damage === 'rules' && (await this.#try(renderChains(ruleset.chains)))) return
    await this.#replace(ruleset)
  }

  /**
   * Loads the last good ruleset when the kernel has none, as the boot unit would have done. True when it is in force
   * now, or something of ours was already. @throws KernelError
   */
  async restoreForBoot(): Promise<boolean> {
    if ((await this.#nft.readState().catch(unreadable)) !== null) return true
    if (this.#stateDirectory === null) return false
    const text = await readFile(join(this.#stateDirectory, BOOT_FILE), 'utf8').catch(() => null)
    if (text === null) return false
    await this.#nft.apply(text)
    return true
  }

  /** Whether the kernel holds this ruleset; what cannot be read is not it. @throws KernelError */
  async holds(digest: string): Promise<boolean> {
    return (await this.#nft.readState().catch(unreadable))?.digest === digest
  }

  /** Somebody else has changed the kernel, with good reason: the next apply looks what it holds. */
  forget(): void {
    this.#inForce = null
  }

  /**
   * What is kept for the next boot comes into force now; when nothing was ever kept, our table goes.
   * @throws KernelError, or Error when what is kept cannot be read; then nothing has changed
   */
  async returnToBoot(): Promise<void> {
    if (this.#stateDirectory === null) throw new Error('nothing is kept for the next boot')
    const text = await readFile(join(this.#stateDirectory, BOOT_FILE), 'utf8').catch((error: Error) => {
      if ('code' in error && error.code === 'ENOENT') return REMOVAL
      throw error
    })
    await this.#nft.apply(text)
    this.#inForce = null
  }

  /** Whether a process is one that changes the kernel for us. */
  isOurs(pid: number): boolean {
    return this.#nft.isOurs(pid)
  }

  /** Attempts counted by the kernel for a machine; 0 when it has made none lately. @throws KernelError */
  async countSource(set: string, address: string): Promise<number> {
    return (await this.#nft.readCounter(set, address)) ?? 0
  }

  /** All machines in a learned set, and what was counted for them. @throws KernelError */
  countSources(set: string): Promise<readonly LearnedElement[]> {
    return this.#nft.readLearned(set)
  }

  async #change(ruleset: Ruleset, digest: string): Promise<Pick<Applied, 'how' | 'elements' | 'chains'>> {
    const before = this.#inForce
    if (before === null || before.digest === digest) {
      // A restarted service finds its own work and leaves it alone, with all its counters.
      const state = await this.#nft.readState().catch(unreadable)
      if (state?.digest === digest) return { how: 'unchanged', elements: 0, chains: 0 }
    } else {
      const delta = difference(before.ruleset, ruleset)
      if (delta !== null && (await this.#try(renderDelta(delta, before.digest, digest)))) {
        return { how: 'delta', ...sizeOf(delta) }
      }
    }
    await this.#replace(ruleset)
    const elements = ruleset.tables.reduce((sum, table) => sum + countElements(table), 0)
    return { how: 'replacement', elements, chains: ruleset.chains.length }
  }

  /** What the kernel has counted and learned goes with the old table, and comes again in the same transaction. */
  async #replace(ruleset: Ruleset): Promise<void> {
    const { text } = renderReplacement(ruleset)
    const remembered = await this.#remember(ruleset)
    try {
      await this.#nft.apply(text + renderRemembered(ruleset, remembered))
    } catch (error) {
      // Rules without memory are better than none: it may be the memory that was refused.
      if (!(error instanceof KernelError) || error.fault !== 'refused') throw error
      await this.#nft.apply(text)
    }
  }

  /** What cannot be read is forgotten: another nft may have written it. */
  async #remember({ learned }: Ruleset): Promise<Remembered> {
    const totals = (await this.#nft.readState().catch(unreadable))?.counters ?? new Map()
    const sets = new Map<string, readonly LearnedElement[]>()
    for (const { name } of totals.size > 0 ? learned.filter(({ holds }) => holds === 'counter') : []) {
      sets.set(name, (await this.#nft.readLearned(name).catch(unreadable)) ?? [])
    }
    return { totals, learned: sets }
  }

  /** False when the kernel does not hold what the change starts from. */
  async #try(text: string): Promise<boolean> {
    try {
      await this.#nft.apply(text)
      return true
    } catch (error) {
      if (error instanceof KernelError && error.fault === 'refused') return false
      throw error
    }
  }
}

/** A table that cannot be read (another nft wrote it) is replaced; what cannot be started at all is an error. */
function unreadable(error: unknown): null {
  if (error instanceof KernelError && (error.fault === 'refused' || error.fault === 'no-answer')) return null
  throw error
}

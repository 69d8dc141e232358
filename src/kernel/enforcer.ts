/**
 * Keeps the kernel at a ruleset: applies changes as deltas where it knows what the kernel holds, as a replacement
 * where it does not, and keeps the last good ruleset as a file that `nft` alone can load at boot.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { difference, sizeOf } from '../compile/delta.ts'
import { renderDelta, renderReplacement, type Script } from '../compile/nft-script.ts'
import type { Ruleset } from '../compile/ruleset.ts'
import { writeFileAtomically } from './atomic-file.ts'
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

  /** Brings the kernel to the ruleset, or leaves it as it was. @throws KernelError */
  async apply(ruleset: Ruleset): Promise<Applied> {
    const script = renderReplacement(ruleset)
    const applied = await this.#change(ruleset, script)
    this.#inForce = { ruleset, digest: script.digest }
    return { ...applied, digest: script.digest, bootFileError: await this.#keepForBoot(script) }
  }

  /** What the kernel holds of ours now; null when there is no table. @throws KernelError */
  readState(): Promise<KernelState | null> {
    return this.#nft.readState()
  }

  /** Writes the table anew, whatever the kernel holds. @throws KernelError */
  async restore(): Promise<void> {
    if (this.#inForce !== null) await this.#nft.apply(renderReplacement(this.#inForce.ruleset).text)
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

  /** Whether a process is one that changes the kernel for us. */
  isOurs(pid: number): boolean {
    return this.#nft.isOurs(pid)
  }

  /** Attempts counted by the kernel for a machine; 0 when it has made none lately. @throws KernelError */
  async countSource(set: string, address: string): Promise<number> {
    return (await this.#nft.readCounter(set, address)) ?? 0
  }

  /** Packets of all machines in a learned set, by address. @throws KernelError */
  countSources(set: string): Promise<ReadonlyMap<string, number>> {
    return this.#nft.readCounters(set)
  }

  async #change(ruleset: Ruleset, script: Script): Promise<Pick<Applied, 'how' | 'elements' | 'chains'>> {
    const before = this.#inForce
    if (before === null || before.digest === script.digest) {
      // A restarted service finds its own work and leaves it alone, with all its counters.
      const state = await this.#nft.readState().catch(unreadable)
      if (state?.digest === script.digest) return { how: 'unchanged', elements: 0, chains: 0 }
    } else {
      const delta = difference(before.ruleset, ruleset)
      if (delta !== null && (await this.#tryDelta(renderDelta(delta, before.digest, script.digest)))) {
        return { how: 'delta', ...sizeOf(delta) }
      }
    }
    await this.#nft.apply(script.text)
    const elements = ruleset.tables.reduce((sum, { keys }) => sum + keys.length, 0)
    return { how: 'replacement', elements, chains: ruleset.chains.length }
  }

  /** False when the kernel does not hold what the delta starts from. */
  async #tryDelta(text: string): Promise<boolean> {
    try {
      await this.#nft.apply(text)
      return true
    } catch (error) {
      if (error instanceof KernelError && error.fault === 'refused') return false
      throw error
    }
  }

  async #keepForBoot({ text }: Script): Promise<Error | null> {
    if (this.#stateDirectory === null) return null
    try {
      await mkdir(this.#stateDirectory, { recursive: true, mode: 0o750 })
      await writeFileAtomically(join(this.#stateDirectory, BOOT_FILE), text, 0o640)
      return null
    } catch (error) {
      return error as Error
    }
  }
}

/** A table that cannot be read (another nft wrote it) is replaced; what cannot be started at all is an error. */
function unreadable(error: unknown): null {
  if (error instanceof KernelError && (error.fault === 'refused' || error.fault === 'no-answer')) return null
  throw error
}

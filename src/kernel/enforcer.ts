/**
 * Keeps the kernel at a ruleset: applies changes as deltas where it knows what the kernel holds, as a replacement
 * where it does not, and keeps the last good ruleset as a file that `nft` alone can load at boot.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type AppliedLog, firstOf } from '../compile/applied-log.ts'
import { difference, sizeOf } from '../compile/delta.ts'
import { countElements } from '../compile/lookup-tables.ts'
import { renderChains, renderDelta } from '../compile/nft/delta-script.ts'
import { digestOf } from '../compile/nft/digest.ts'
import { TABLE } from '../compile/nft/names.ts'
import { renderReplacement } from '../compile/nft/replacement.ts'
import {
  type LearnedElement,
  type Remembered,
  renderForgetting,
  renderRemembered,
} from '../compile/remembered.ts'
import type { Ruleset } from '../compile/ruleset.ts'
import { BOOT_FILE, BootFile, type KeptChange, newEra } from './boot-file.ts'
import type { Damage } from './change-monitor.ts'
import type { Conntrack } from './conntrack.ts'
import type { Generation } from './generation.ts'
import { KernelError } from './kernel-error.ts'
import { waitForFolder, withLock } from './lock.ts'
import type { KernelState, Nft } from './nft.ts'
import type { OwnChanges } from './own-changes.ts'

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
  /** Where the table in the kernel stands. */
  readonly log: AppliedLog
}

/** What was sent to the kernel; `overNothing`: where nothing of ours was before. */
type Change = Pick<Applied, 'how' | 'elements' | 'chains'> & {
  readonly log: AppliedLog
  readonly overNothing: boolean
  /** How it was sent, if it was a delta. */
  readonly change: KeptChange | null
}

/** Sees to it that the next boot brings the ruleset; why it would not, or null. */
type Keep = (inForce: Pick<InForce, 'ruleset' | 'digest'>, change: KeptChange | null) => Promise<Error | null>

const LOCK_FILE = 'apply.lock'

/** Changed at once, more may be announced to whoever listens faster than it reads; then nobody hears of it. */
const MANY_ELEMENTS = 1_000

export interface EnforcerOptions {
  /** Ends redirected connections that a change makes stale; without it they go on. */
  readonly conntrack?: Conntrack
  /** Tells whether somebody changed the kernel while we were not there; without it, a digest is believed. */
  readonly generation?: Generation
}

/** The first line makes sure that there is something to delete. */
const REMOVAL = `table ${TABLE}\ndelete table ${TABLE}\n`

/**
 * One at a time: the caller sees to it that no two applies of its own overlap, and a lock in the state directory that
 * none does of another process.
 */
export class Enforcer {
  readonly #nft: Nft
  readonly #stateDirectory: string | null
  readonly #bootFile: BootFile | null
  readonly #conntrack: Conntrack | null
  readonly #generation: Generation | null
  #inForce: InForce | null = null

  /** Without a state directory nothing is kept for the next boot, and nothing locked. */
  constructor(nft: Nft, stateDirectory: string | null, { conntrack, generation }: EnforcerOptions = {}) {
    this.#nft = nft
    this.#stateDirectory = stateDirectory
    this.#bootFile = stateDirectory === null ? null : new BootFile(stateDirectory)
    this.#conntrack = conntrack ?? null
    this.#generation = generation ?? null
  }

  /** The ruleset that was last applied or found; null before the first apply. */
  get inForce(): InForce | null {
    return this.#inForce
  }

  /**
   * Brings the kernel to the ruleset, also for the next boot; or leaves it as it was.
   * @throws KernelError, which is a LockedError when another process is at it for too long
   */
  async apply(ruleset: Ruleset): Promise<Applied> {
    return this.#changing(ruleset, (inForce, change) => this.#keep(inForce, change))
  }

  /** The same, while the next boot brings what was kept for it before. @throws KernelError */
  async applyUntilBoot(ruleset: Ruleset): Promise<Applied> {
    return this.#changing(ruleset, async () => null)
  }

  /** Keeps what is in force for the next boot; why it could not, or null. */
  async keepForBoot(): Promise<Error | null> {
    const inForce = this.#inForce
    if (this.#stateDirectory === null || inForce === null) return null
    return this.#locked(() => this.#keep(inForce, null)).catch((error: Error) => error)
  }

  /** What the kernel holds of ours now; null when there is no table. @throws KernelError */
  readState(): Promise<KernelState | null> {
    return this.#nft.readState()
  }

  /**
   * Puts right what somebody else changed: rules alone cost what rules cost, anything else the whole table. Where it is
   * not known what was in force, it is what is kept for the next boot.
   * @throws KernelError
   */
  async restore(damage: Damage): Promise<void> {
    if (this.#inForce === null) {
      await this.#loadBootFile()
      return
    }
    const { ruleset, digest } = this.#inForce
    await this.#locked(async () => {
      if (damage === 'rules' && (await this.#try(renderChains(ruleset.chains)))) {
        await this.#generation?.note()
        return
      }
      this.#inForce = { ruleset, digest, log: await this.#replace(ruleset) }
    })
  }

  /**
   * Loads the last good ruleset when the kernel has none, as the boot unit would have done. @throws KernelError
   */
  async restoreForBoot(): Promise<'is-there' | 'restored' | 'nothing-kept'> {
    if ((await this.#nft.readState().catch(unreadable)) !== null) return 'is-there'
    return (await this.#loadBootFile()) ? 'restored' : 'nothing-kept'
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
    await this.#locked(() => this.#send(text))
    this.#inForce = null
  }

  /** Which of the announced transactions are ours. */
  get own(): OwnChanges {
    return this.#nft.own
  }

  /** Attempts counted by the kernel for a machine; 0 when it has made none lately. @throws KernelError */
  async countSource(set: string, address: string): Promise<number> {
    return (await this.#nft.readCounter(set, address)) ?? 0
  }

  /** All machines in a learned set, and what was counted for them. @throws KernelError */
  countSources(set: string): Promise<readonly LearnedElement[]> {
    return this.#nft.readLearned(set)
  }

  /**
   * Makes the kernel forget machines of a learned set, and what it counted of them. Nobody may change anything meanwhile:
   * to be called as one change of the caller's. @throws KernelError, when one of them is not there any more
   */
  async forgetSources(set: string, addresses: readonly string[]): Promise<void> {
    await this.#locked(async () => {
      for (let from = 0; from < addresses.length; from += MANY_ELEMENTS) {
        await this.#send(renderForgetting(set, addresses.slice(from, from + MANY_ELEMENTS)))
      }
    })
  }

  /** False when nothing was ever kept, or it cannot be read. */
  async #loadBootFile(): Promise<boolean> {
    const path = this.#stateDirectory === null ? null : join(this.#stateDirectory, BOOT_FILE)
    const text = path === null ? null : await readFile(path, 'utf8').catch(() => null)
    if (text === null) return false
    await this.#locked(() => this.#send(text))
    await this.#generation?.note()
    return true
  }

  /** Changes the kernel, and what belongs to it with the same lock; then lets conntrack follow. */
  async #changing(ruleset: Ruleset, keep: Keep): Promise<Applied> {
    const before = this.#inForce?.ruleset ?? null
    const digest = digestOf(ruleset)
    const { overNothing, ...applied } = await this.#alone(async () => {
      const changed = await this.#change(ruleset, digest)
      const { change, log, ...sent } = changed
      this.#inForce = { ruleset, digest, log }
      return { ...sent, digest, bootFileError: await keep({ ruleset, digest }, change) }
    })
    if (applied.how !== 'unchanged' && !overNothing) await this.#conntrack?.endStale(before, ruleset)
    return applied
  }

  /** When no other process is at it, and what an earlier one has begun has come to its end. */
  #locked<T>(work: () => Promise<T>): Promise<T> {
    return this.#alone(async () => {
      await this.#waitForOthers()
      return work()
    })
  }

  /** When no other process is at it; an nft that one has left behind may be. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const folder = this.#stateDirectory
    return folder === null ? work() : withLock(join(folder, LOCK_FILE), work)
  }

  /** @throws LockedError */
  async #waitForOthers(): Promise<void> {
    if (this.#stateDirectory !== null) await waitForFolder(this.#stateDirectory)
  }

  /** @throws KernelError */
  #send(script: string): Promise<void> {
    return this.#nft.apply(script, this.#stateDirectory)
  }

  /** As a change beside what is kept, where that is known and leads there; else as a whole. */
  async #keep(
    { ruleset, digest }: Pick<InForce, 'ruleset' | 'digest'>,
    change: KeptChange | null,
  ): Promise<Error | null> {
    if (this.#bootFile === null) return null
    try {
      if (change === null ? await this.#bootFile.keeps(digest) : await this.#bootFile.append(change))
        return null
      await this.#bootFile.write((era) => renderReplacement(ruleset, era).text, digest)
      return null
    } catch (error) {
      return error as Error
    }
  }

  async #change(ruleset: Ruleset, digest: string): Promise<Change> {
    const before = this.#inForce
    let overNothing = false
    if (before === null || before.digest === digest) {
      await this.#waitForOthers()
      // A restarted service finds its own work and leaves it alone, with all its counters; unless somebody has changed
      // nftables meanwhile: nobody knows what, and to look at a million elements takes longer than to write them.
      const isIntact = before !== null || ((await this.#generation?.isAsNoted()) ?? true)
      const state = await this.#nft.readState().catch(unreadable)
      if (isIntact && state?.digest === digest && state.log !== null) {
        return { how: 'unchanged', elements: 0, chains: 0, log: state.log, overNothing, change: null }
      }
      overNothing = before === null && state === null
    } else {
      // What nft is told here comes after all that others have begun, and does nothing where they have changed our table: to
      // look for them first costs more than the change, as the kernel's list of locks is made up for each who reads it.
      const delta = difference(before.ruleset, ruleset)
      const script = delta === null ? null : renderDelta(delta, before.log, digest)
      if (delta !== null && script !== null && (await this.#try(script.text))) {
        const size = sizeOf(delta)
        if (size.elements > MANY_ELEMENTS) await this.#generation?.note()
        const render = (log: AppliedLog) => renderDelta(delta, log, digest)
        const change = { from: before.digest, to: digest, render }
        return { how: 'delta', ...size, log: script.log, overNothing, change }
      }
      await this.#waitForOthers()
    }
    const log = await this.#replace(ruleset)
    const elements = ruleset.tables.reduce((sum, table) => sum + countElements(table), 0)
    return { how: 'replacement', elements, chains: ruleset.chains.length, log, overNothing, change: null }
  }

  /** What the kernel has counted and learned goes with the old table, and comes again in the same transaction. */
  async #replace(ruleset: Ruleset): Promise<AppliedLog> {
    const era = newEra()
    const { text } = renderReplacement(ruleset, era)
    const remembered = await this.#remember(ruleset)
    try {
      await this.#send(text + renderRemembered(ruleset, remembered))
    } catch (error) {
      // Rules without memory are better than none: it may be the memory that was refused.
      if (!(error instanceof KernelError) || error.fault !== 'refused') throw error
      await this.#send(text)
    }
    await this.#generation?.note()
    return firstOf(era)
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
      await this.#send(text)
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

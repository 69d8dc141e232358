/**
 * A change on trial: in force, and taken back by itself unless somebody confirms it in time.
 *
 * The guard (scripts/rollback-guard) sees to it that this is so without this program, too; whoever renames the file
 * `pending` first decides. So what is remembered here is held against the files before anything else is done, and the
 * kernel's own mark tells whether the change is in force at all: after a reboot it is not.
 */
import { randomBytes } from 'node:crypto'
import { uptime } from 'node:os'
import { setTimeout as wait } from 'node:timers/promises'
import { digestOf } from '../../compile/nft/digest.ts'
import { renderReplacement } from '../../compile/nft/replacement.ts'
import type { Ruleset } from '../../compile/ruleset.ts'
import { newEra } from '../../kernel/boot-file.ts'
import type { Applied, Enforcer } from '../../kernel/enforcer.ts'
import { KernelError } from '../../kernel/kernel-error.ts'
import { LockedError } from '../../kernel/lock.ts'
import { ConfirmationFiles, type Pending } from './confirmation.ts'
import { type FindGuard, findGuard, UnguardedError } from './guard.ts'
import { ConfirmationPendingError, NothingPendingError } from './pending.ts'

/** Why a change was taken back: its time was up, somebody asked, the guard did it, or another program left it behind. */
export type TakenBackBy = 'deadline' | 'request' | 'guard' | 'leftover'

export interface TrialOptions {
  readonly enforcer: Enforcer
  readonly stateDirectory: string
  /** Called when a change's time is up, for a look at it; without it nobody waits for that here. */
  readonly onDue?: () => void
  readonly onTakenBack?: (pending: Pending, by: TakenBackBy) => void
  /** A change cannot be taken back yet; it is tried again with every look. */
  readonly onStuck?: (pending: Pending | null, error: Error) => void
  /** For tests: who guards, and the seconds since the machine was switched on. */
  readonly findGuard?: FindGuard
  readonly uptime?: () => number
}

/** What a look at the files has found. */
export type Found = 'nothing-new' | 'taken-back'

interface Waiting {
  readonly pending: Pending
  /** Milliseconds on the scale of performance.now(), which no change of the clock moves. */
  readonly due: number
  /** What was in force before, where that is known; else it is what is kept for the next boot. */
  readonly before: Ruleset | null
  /** Decided, but the kernel does not know yet. */
  readonly takingBack: TakenBackBy | null
}

/** For the one who has renamed `pending` to be done with it. */
const PATIENCE = 3_000

/** Not for two callers at once: the controller gives everybody a turn. */
export class Trial {
  readonly #options: TrialOptions
  readonly #files: ConfirmationFiles
  #waiting: Waiting | null = null
  #held: Pending | null = null
  /** Decided here, should its file still be there because nothing can be renamed. */
  #settled = ''
  #timer: NodeJS.Timeout | undefined
  #isFirstLook = true

  constructor(options: TrialOptions) {
    this.#options = options
    this.#files = new ConfirmationFiles(options.stateDirectory)
  }

  /** The change that waits for its confirmation. */
  get pending(): Pending | null {
    return this.#waiting?.pending ?? null
  }

  /** Until the change that waits is taken back; not below 0. */
  get secondsLeft(): number {
    return this.#waiting === null ? 0 : Math.max(0, (this.#waiting.due - performance.now()) / 1_000)
  }

  /** The change that was taken back: it does not come into force again but on purpose. */
  get held(): Pending | null {
    return this.#held
  }

  /** Whether this is the ruleset that was taken back. */
  isHeld(ruleset: Ruleset): boolean {
    return this.#held !== null && digestOf(ruleset) === this.#held.digest
  }

  /** Whether this is the ruleset that waits. */
  isPending(ruleset: Ruleset): boolean {
    return this.#waiting !== null && digestOf(ruleset) === this.#waiting.pending.digest
  }

  /** @throws ConfirmationPendingError */
  mustBeSettled(): void {
    if (this.#waiting !== null) throw new ConfirmationPendingError(this.secondsLeft)
  }

  /**
   * Learns what others have decided meanwhile, and takes back what is due.
   * @throws KernelError or Error at the first look only; any other leaves to the next what it could not do
   */
  async look(): Promise<Found> {
    if (this.#isFirstLook) {
      await this.#firstLook()
      this.#isFirstLook = false
      return 'nothing-new'
    }
    const pending = this.pending
    try {
      return await this.#lookAgain()
    } catch (error) {
      this.#options.onStuck?.(pending, error as Error)
      return 'nothing-new'
    }
  }

  /**
   * Brings a ruleset into force until it is confirmed, under the eyes of a guard.
   * @param seconds how long it may wait, counted from now
   * @param before what is in force; null when that is not known
   * @throws UnguardedError or KernelError; then nothing has changed
   */
  async begin(ruleset: Ruleset, seconds: number, before: Ruleset | null): Promise<Applied> {
    const { enforcer } = this.#options
    const { text, digest } = renderReplacement(ruleset, newEra())
    const start = performance.now()
    const deadline = Math.floor(this.#uptime()) + 1 + seconds
    const pending = { id: randomBytes(8).toString('hex'), seconds, deadline, digest }
    try {
      // What the guard goes back to must be what is in force now, and readable for it.
      const error = await enforcer.keepForBoot()
      if (error !== null) throw error
      await this.#files.begin(pending, text)
    } catch (error) {
      await this.#files.withdraw(pending)
      if (error instanceof KernelError) throw error
      throw new UnguardedError(`no guard would know of this change, so it was not made: ${messageOf(error)}`)
    }
    try {
      await (this.#options.findGuard ?? findGuard)(this.#files, pending)
    } catch (error) {
      await this.#files.withdraw(pending)
      throw error
    }
    const holdAgain = await this.release()
    let applied: Applied
    try {
      applied = await enforcer.applyUntilBoot(ruleset)
    } catch (error) {
      // Of an nft that gave no answer nobody knows what it has done: the next look takes it back, or the guard.
      const isUnknown = error instanceof KernelError && error.fault === 'no-answer'
      if (!isUnknown || error instanceof LockedError) {
        await this.#files.withdraw(pending)
        await holdAgain()
      }
      throw error
    }
    this.#wait({ pending, due: start + seconds * 1_000, before, takingBack: null })
    if ((await this.look()) === 'taken-back' || this.secondsLeft === 0) {
      throw new UnguardedError(
        `the change took longer than ${seconds} s to come into force, and was taken back`,
      )
    }
    return applied
  }

  /**
   * The change stays. Answers which, and why it would not survive a reboot, or null.
   * @throws NothingPendingError; Error (EROFS, …) when nobody can confirm it
   */
  async confirm(): Promise<{ pending: Pending; bootFileError: Error | null }> {
    const { pending } = this.#mustWait()
    if (!(await this.#files.claim('confirmed'))) throw await this.#tooLate()
    const bootFileError = await this.#files.keep().then(
      () => null,
      (error: Error) => error,
    )
    await this.#files.finish(pending)
    this.#done()
    return { pending, bootFileError }
  }

  /**
   * The change goes, now. @throws NothingPendingError; KernelError, then it is tried again with every look
   */
  async rollBack(): Promise<Pending> {
    const { pending, takingBack } = this.#mustWait()
    if (takingBack === null && !(await this.#claim())) throw await this.#tooLate()
    await this.#takeBack(takingBack ?? 'request')
    return pending
  }

  /** Ends the hold; answers how to put it back, should the change that ended it fail. */
  async release(): Promise<() => Promise<void>> {
    const held = this.#held
    const restore = await this.#files.release()
    this.#held = null
    return async () => {
      await restore().catch(() => {})
      this.#held = held
    }
  }

  /** What a program before this one has left. */
  async #firstLook(): Promise<void> {
    const { enforcer } = this.#options
    // A disk that cannot be written must not keep the gateway from being watched.
    await this.#files.keepConfirmed().catch(() => {})
    this.#held = await this.#files.rolledBack()
    const pending = await this.#files.pending()
    if (pending === null) {
      // Decided, but whoever did so died before the kernel knew.
      if (this.#held === null || !(await enforcer.holds(this.#held.digest))) return
      await enforcer.returnToBoot()
      await this.#releaseWhatIsInForce(this.#held)
      return
    }
    const left = pending.deadline - this.#uptime()
    // With more time left than there ever was, the deadline is one of an earlier boot.
    const isOpen = left > 0 && left <= pending.seconds + 2
    if (isOpen && (await enforcer.holds(pending.digest))) {
      this.#wait({ pending, due: performance.now() + left * 1_000, before: null, takingBack: null })
      await this.release()
    } else await this.#reject(pending)
  }

  async #lookAgain(): Promise<Found> {
    const file = await this.#files.pending()
    if (this.#waiting === null) {
      // A disk that was read-only may have become writable.
      if (file?.id === this.#settled) await this.#files.claim('rolled-back')
      else if (file !== null) await this.#reject(file)
      return 'nothing-new'
    }
    const { pending, takingBack } = this.#waiting
    if (takingBack !== null) return this.#takeBack(takingBack)
    if (file?.id === pending.id) {
      if (this.secondsLeft > 0) return 'nothing-new'
      if (await this.#claim()) return this.#takeBack('deadline')
    }
    if ((await this.#files.rolledBack())?.id !== pending.id) {
      // Somebody else has confirmed it.
      this.#done()
      return 'nothing-new'
    }
    // The guard is about to load what was in force before: to do the same at the same time would cost the counters.
    for (const start = performance.now(); performance.now() - start < PATIENCE; await wait(50)) {
      if (!(await this.#files.isGuarded(pending))) break
    }
    this.#options.enforcer.forget()
    return this.#takeBack('guard')
  }

  /** Takes back a change of another program that is no longer in force, is overdue, or is none of this program's. */
  async #reject(pending: Pending): Promise<void> {
    const { enforcer } = this.#options
    await this.#files.claim('rolled-back').catch((error: Error) => this.#options.onStuck?.(pending, error))
    if (!(await enforcer.holds(pending.digest))) await enforcer.restoreForBoot()
    else if (enforcer.inForce === null) await enforcer.returnToBoot()
    else await enforcer.restore('everything')
    await this.#settle(pending, 'leftover')
  }

  /** False when somebody else has decided. Where nothing can be renamed nobody can confirm, so it is decided as well. */
  #claim(): Promise<boolean> {
    return this.#files.claim('rolled-back').catch((error: Error) => {
      this.#options.onStuck?.(this.pending, error)
      return true
    })
  }

  async #takeBack(by: TakenBackBy): Promise<Found> {
    if (this.#waiting === null) return 'nothing-new'
    const { enforcer } = this.#options
    const { pending, before } = this.#waiting
    this.#waiting = { ...this.#waiting, takingBack: by }
    if (before === null) await enforcer.returnToBoot()
    else await enforcer.applyUntilBoot(before)
    await this.#settle(pending, by)
    return 'taken-back'
  }

  async #settle(pending: Pending, by: TakenBackBy): Promise<void> {
    this.#settled = pending.id
    this.#held = pending
    this.#done()
    await this.#files.finish(pending)
    this.#options.onTakenBack?.(pending, by)
    await this.#releaseWhatIsInForce(pending)
  }

  /** A change that changed nothing need not be kept from coming into force. */
  async #releaseWhatIsInForce({ digest }: Pending): Promise<void> {
    // Where the kernel cannot be asked the hold stays, until somebody ends it.
    if (await this.#options.enforcer.holds(digest).catch(() => false)) await this.release()
  }

  #mustWait(): Waiting {
    if (this.#waiting !== null) return this.#waiting
    const why = this.#held === null ? '' : ': the last one was taken back'
    throw new NothingPendingError(`no change waits for a confirmation${why}`)
  }

  async #tooLate(): Promise<NothingPendingError> {
    await this.look()
    return new NothingPendingError('no change waits for a confirmation any more: it was taken back meanwhile')
  }

  #wait(waiting: Waiting): void {
    this.#waiting = waiting
    const { onDue } = this.#options
    if (onDue === undefined) return
    clearTimeout(this.#timer)
    // A timer may be a moment early.
    this.#timer = setTimeout(onDue, Math.max(0, waiting.due - performance.now()) + 5)
    // A service that stops does not wait for it; the guard does.
    this.#timer.unref()
  }

  #done(): void {
    clearTimeout(this.#timer)
    this.#waiting = null
  }

  #uptime(): number {
    return (this.#options.uptime ?? uptime)()
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

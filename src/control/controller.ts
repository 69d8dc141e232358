/**
 * The one way by which a change reaches the kernel: read, check, test, compile, apply, and only then keep. Changes
 * wait for each other; readers see the model that is in force.
 */

import { type Caller, SERVICE } from '../caller.ts'
import { digestOf } from '../compile/nft/digest.ts'
import type { ChangeKeeper } from '../history/change-keeper.ts'
import type { Applied, Enforcer } from '../kernel/enforcer.ts'
import { documentChanges } from '../plan/document-changes.ts'
import { type Compiled, makePlan, NOTHING, type Plan } from '../plan/plan.ts'
import { DirectoryError } from '../policy/files.ts'
import { PolicyError } from '../policy/policy-error.ts'
import type { Document, Kind } from '../policy/schema.ts'
import type { Change, How, MakeChange } from './changes/change.ts'
import { Changes, type Rules } from './changes/changes.ts'
import { KeptDocuments } from './changes/kept-documents.ts'
import { PolicyDirectory, type PolicyDirectoryOptions } from './changes/policy-directory.ts'
import { HeldError } from './trial/pending.ts'
import { type TakenBackBy, Trial, type TrialOptions } from './trial/trial.ts'
import { triedSources } from './watching/tried-sources.ts'

export interface ControllerOptions extends PolicyDirectoryOptions {
  readonly enforcer: Enforcer
  /** Changes that wait for a confirmation; their time is only waited for here with `staysOn`. */
  readonly trial: Omit<TrialOptions, 'enforcer' | 'onDue'>
  /** Whether this program lives as long as changes may wait: a service, not a command. */
  readonly staysOn?: boolean
  /** Remembers changes, where something does. */
  readonly keeper?: ChangeKeeper | undefined
  readonly onApplied?: (inForce: InForce, by: Caller) => void
  /**
   * A change is made: in the kernel and in its files, and nobody's confirmation is waited for. `isWhole`: it is all that the
   * directory says.
   */
  readonly onMade?: (inForce: InForce, by: Caller, isWhole: boolean) => void
  /** What is in force could not be kept for the next boot, or null: it is kept, and was not before. */
  readonly onBootFile?: (error: Error | null) => void
}

/** What is in force, and how it came to be. */
export interface InForce extends Compiled {
  readonly applied: Applied
  /** Milliseconds since the epoch. */
  readonly time: number
}

export class Controller {
  readonly #options: ControllerOptions
  readonly #trial: Trial
  readonly #policies: PolicyDirectory
  readonly #kept: KeptDocuments
  #inForce: InForce | null = null
  /** By whom, and whether as the directory has it. */
  #latest = { by: SERVICE, isWhole: false }
  /** What `onMade` was told of last. */
  #made: InForce | null = null
  /** What was in force before the change that waits. */
  #before: InForce | null = null
  /** A change was taken back, and nobody here knows what was before it. */
  #isLost = false
  #refused: PolicyError | DirectoryError | null = null
  #lastGuarded = Number.NEGATIVE_INFINITY
  #queue: Promise<unknown> = Promise.resolve()
  readonly #changes: Changes

  constructor(options: ControllerOptions) {
    this.#options = options
    const { trial, enforcer, directory } = options
    this.#policies = new PolicyDirectory(options)
    this.#kept = new KeptDocuments(trial.stateDirectory, directory)
    this.#trial = new Trial({
      ...trial,
      enforcer,
      ...(options.staysOn === true ? { onDue: () => void this.exclusively(async () => {}) } : {}),
      onTakenBack: (pending, by) => {
        this.#takenBack(by)
        trial.onTakenBack?.(pending, by)
      },
    })
    this.#changes = new Changes({
      directory,
      keeper: options.keeper,
      policies: this.#policies,
      rules: this.#rules(),
    })
  }

  get inForce(): InForce | null {
    return this.#inForce
  }

  /** Why the directory, as it was when somebody last wanted it in force, is not. */
  get refused(): PolicyError | DirectoryError | null {
    return this.#refused
  }

  /** What waits for a confirmation, and what was taken back. */
  get trial(): Pick<Trial, 'pending' | 'secondsLeft' | 'held'> {
    return this.#trial
  }

  /** When the guard of a change has changed the kernel, on the scale of performance.now(). */
  get lastGuarded(): number {
    return this.#lastGuarded
  }

  /**
   * Applies the directory as it stands, because somebody says so.
   * @throws PolicyError, KernelError, DirectoryError or ConfirmationPendingError; then nothing has changed
   */
  apply(by: Caller = SERVICE): Promise<InForce> {
    return this.#inTurn(async () => {
      this.#trial.mustBeSettled()
      return this.#enforce(await this.#prepare(), by)
    })
  }

  /**
   * The same, until it is confirmed: else it is taken back after so many seconds.
   * @throws what `apply` throws, and UnguardedError
   */
  applyOnTrial(seconds: number, by: Caller = SERVICE): Promise<InForce> {
    return this.#inTurn(async () => {
      this.#trial.mustBeSettled()
      const compiled = await this.#prepare()
      const before = this.#inForce
      this.#before = before
      const applied = await this.#trial.begin(compiled.ruleset, seconds, before?.ruleset ?? null)
      return this.#nowInForce(compiled, applied, by)
    })
  }

  /**
   * The same as `apply`, without anybody who says so: what was taken back stays away. At the start of a service that
   * finds a change of its predecessor waiting, that goes on waiting.
   * @throws what `apply` throws, and HeldError
   */
  applyUnlessHeld(): Promise<InForce> {
    return this.#inTurn(async () => {
      const { pending } = this.#trial
      if (this.#inForce !== null || pending === null) this.#trial.mustBeSettled()
      const compiled = await this.#prepare()
      if (this.#trial.isHeld(compiled.ruleset)) {
        throw new HeldError(
          'the policies are those that were taken back; egress25 apply brings them into force',
        )
      }
      if (pending === null) return this.#enforce(compiled, SERVICE)
      if (!this.#trial.isPending(compiled.ruleset)) this.#trial.mustBeSettled()
      const applied = await this.#options.enforcer.applyUntilBoot(compiled.ruleset)
      return this.#nowInForce(compiled, applied, SERVICE)
    })
  }

  /**
   * Where the policies cannot be applied: takes up the documents that led to what the kernel holds, as far as they were
   * kept. null: nobody knows them.
   */
  resume(): Promise<InForce | null> {
    return this.#inTurn(() => this.#resume())
  }

  /** The change that waits stays. Answers its id, and why it would not survive a reboot. @throws NothingPendingError */
  confirm(): Promise<{ readonly id: string; readonly bootFileError: Error | null }> {
    return this.#inTurn(async () => {
      const { pending, bootFileError } = await this.#trial.confirm()
      this.#bootFile(bootFileError)
      // A command that confirms does not know what an earlier one has applied.
      const compiled = this.#inForce ?? (await this.#policies.prepareUntested().catch(() => null))
      if (compiled !== null && digestOf(compiled.ruleset) === pending.digest) this.#kept.keep(compiled.loaded)
      return { id: pending.id, bootFileError }
    })
  }

  /** The change that waits goes at once. Answers its id. @throws NothingPendingError or KernelError */
  rollBack(): Promise<{ readonly id: string }> {
    return this.#inTurn(() => this.#trial.rollBack())
  }

  /** Creates or replaces a document. @throws what `apply` throws, and what the precondition throws */
  put(document: Document, change: Change): Promise<Plan | null> {
    return this.#changes.put(document, change)
  }

  /** Removes a document. @throws what `apply` throws, and what the precondition throws */
  delete(kind: Kind, name: string, change: Change): Promise<Plan | null> {
    return this.#changes.delete(kind, name, change)
  }

  /**
   * Carries a change of files out, as a whole, or only says what it would change. What somebody edits by hand
   * meanwhile, and is not in force, stays out of it.
   * @throws what `apply` throws, what `make` throws, EditedByHandError, HeldError, UnwritableError and HalfMadeError
   */
  changeFiles(make: MakeChange, how: How): Promise<Plan | null> {
    return this.#changes.changeFiles(make, how)
  }

  /** Tries again, where what is in force could not be kept for the next boot. */
  keepForBoot(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#inForce === null || this.#inForce.applied.bootFileError === null) return
      if (this.#trial.pending !== null) return
      this.#bootFile(await this.#options.enforcer.keepForBoot())
    })
  }

  /**
   * Whether an `apply` would bring other documents into force, such as those that somebody edits by hand.
   * @throws PolicyError when the directory has mistakes, or DirectoryError
   */
  differs(): Promise<boolean> {
    return this.#inTurn(async () => {
      const { loaded, ruleset } = await this.#policies.prepare()
      if (this.#inForce === null) return true
      return (
        digestOf(ruleset) !== digestOf(this.#inForce.ruleset) ||
        documentChanges(this.#inForce.loaded, loaded).length > 0
      )
    })
  }

  /** What `apply` would change now. @throws PolicyError, KernelError or DirectoryError */
  plan(): Promise<Plan> {
    return this.#inTurn(async () => this.#planOf(await this.#policies.prepare()))
  }

  /** Once what is in force is kept for the next start. */
  settled(): Promise<void> {
    return this.#kept.settled()
  }

  /** Runs work when no change is under way, and holds changes back until it is done. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#inTurn(work)
  }

  /** As changes of documents see it. */
  #rules(): Rules {
    const inForce = () => this.#inForce
    return {
      get inForce() {
        return inForce()
      },
      inTurn: (work) => this.#inTurn(work),
      mustBeSettled: () => this.#trial.mustBeSettled(),
      mustNotSmuggle: (compiled) => this.#mustNotSmuggle(compiled),
      enforce: (compiled, by) => this.#enforce(compiled, by, false),
      made: () => this.#tellOfMade(),
      planOf: (after) => this.#planOf(after),
      isWhole: () => {
        this.#refused = null
      },
    }
  }

  /** The directory as it stands, to bring it into force. */
  async #prepare(): Promise<Compiled> {
    try {
      const compiled = await this.#policies.prepare()
      this.#refused = null
      return compiled
    } catch (error) {
      if (error instanceof PolicyError || error instanceof DirectoryError) this.#refused = error
      throw error
    }
  }

  async #planOf(after: Compiled): Promise<Plan> {
    const { enforcer, now } = this.#options
    return makePlan(this.#inForce ?? NOTHING, after, now(), await triedSources(this.#inForce, enforcer))
  }

  async #enforce(compiled: Compiled, by: Caller, isWhole = true): Promise<InForce> {
    const holdAgain = await this.#trial.release()
    try {
      const applied = await this.#options.enforcer.apply(compiled.ruleset)
      this.#kept.keep(compiled.loaded)
      return this.#nowInForce(compiled, applied, by, isWhole)
    } catch (error) {
      await holdAgain()
      throw error
    }
  }

  async #resume(): Promise<InForce | null> {
    const { enforcer } = this.#options
    const kept = new PolicyDirectory({ ...this.#options, directory: this.#kept.directory })
    const compiled = await kept.prepareUntested().catch(() => null)
    if (compiled === null || !(await enforcer.holds(digestOf(compiled.ruleset)))) return null
    return this.#nowInForce(compiled, await enforcer.applyUntilBoot(compiled.ruleset), SERVICE)
  }

  #nowInForce({ loaded, model, ruleset }: Compiled, applied: Applied, by: Caller, isWhole = true): InForce {
    this.#latest = { by, isWhole }
    const before = this.#inForce?.applied.bootFileError ?? null
    this.#inForce = { loaded, model, ruleset, applied, time: this.#options.now() }
    this.#options.onApplied?.(this.#inForce, by)
    this.#tellOfBootFile(before, applied.bootFileError)
    return this.#inForce
  }

  #tellOfMade(): void {
    if (this.#inForce === null || this.#inForce === this.#made || this.#trial.pending !== null) return
    this.#made = this.#inForce
    this.#options.onMade?.(this.#inForce, this.#latest.by, this.#latest.isWhole)
  }

  #bootFile(bootFileError: Error | null): void {
    if (this.#inForce === null) return
    const { applied } = this.#inForce
    this.#inForce = { ...this.#inForce, applied: { ...applied, bootFileError } }
    this.#tellOfBootFile(applied.bootFileError, bootFileError)
  }

  #tellOfBootFile(before: Error | null, now: Error | null): void {
    if (before?.message !== now?.message) this.#options.onBootFile?.(now)
  }

  /** A change of one document must not bring along what was taken back and still stands in the directory. */
  async #mustNotSmuggle({ ruleset }: Compiled): Promise<void> {
    if (this.#trial.held === null) return
    if (digestOf(ruleset) === this.#inForce?.applied.digest) return
    const asItStands = await this.#policies.prepare().catch(() => null)
    if (asItStands === null || !this.#trial.isHeld(asItStands.ruleset)) return
    throw new HeldError(
      'the policy files still say what was taken back: put them right, or bring them into force with egress25 apply, and repeat this; nothing was changed',
    )
  }

  #takenBack(by: TakenBackBy): void {
    // What another program left behind has not been in force here.
    if (by === 'leftover') return
    if (by === 'guard') this.#lastGuarded = performance.now()
    this.#inForce = this.#before
    this.#isLost = this.#before === null
    this.#before = null
  }

  /** One thing after the other, and each after a look at what others have decided. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(async () => {
      await this.#trial.look()
      if (this.#isLost) {
        this.#isLost = false
        await this.#resume()
      }
      try {
        return await work()
      } finally {
        this.#tellOfMade()
      }
    })
    this.#queue = turn.catch(() => {})
    return turn
  }
}

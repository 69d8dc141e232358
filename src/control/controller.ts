/**
 * The one way by which a change reaches the kernel: read, check, test, compile, apply, and only then keep. Changes
 * wait for each other; readers see the model that is in force.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf } from '../compile/nft-script.ts'
import { EditedByHandError } from '../history/history-error.ts'
import type { Applied, Enforcer } from '../kernel/enforcer.ts'
import { KernelError } from '../kernel/kernel-error.ts'
import { documentChanges } from '../plan/document-changes.ts'
import { type Compiled, makePlan, NOTHING, type Plan } from '../plan/plan.ts'
import { DirectoryError, type Overlay } from '../policy/files.ts'
import type { Loaded } from '../policy/load.ts'
import type { Model } from '../policy/model.ts'
import type { Document, Kind } from '../policy/schema.ts'
import { allOf, type Caller, SERVICE } from './caller.ts'
import type { ChangeKeeper, Remembered } from './change-keeper.ts'
import { deleteChange, type FileChange, findDocument, overlayOf, putChange } from './document-change.ts'
import { editedApart } from './edited-apart.ts'
import { type Asked, Gathered } from './gathered.ts'
import { KeptDocuments } from './kept-documents.ts'
import { HeldError } from './pending.ts'
import { PolicyDirectory, type PolicyDirectoryOptions } from './policy-directory.ts'
import { PolicyError } from './policy-error.ts'
import { stageChanges } from './stage-change.ts'
import { type TakenBackBy, Trial, type TrialOptions } from './trial.ts'
import { triedSources } from './tried-sources.ts'

export interface ControllerOptions extends PolicyDirectoryOptions {
  readonly enforcer: Enforcer
  /** Changes that wait for a confirmation; their time is only waited for here with `staysOn`. */
  readonly trial: Omit<TrialOptions, 'enforcer' | 'onDue'>
  /** Whether this program lives as long as changes may wait: a service, not a command. */
  readonly staysOn?: boolean
  /** Remembers changes, where something does. */
  readonly keeper?: ChangeKeeper | undefined
  readonly onApplied?: (inForce: InForce, by: Caller) => void
  /** What is in force could not be kept for the next boot, or null: it is kept, and was not before. */
  readonly onBootFile?: (error: Error | null) => void
}

/** What is in force, and how it came to be. */
export interface InForce extends Compiled {
  readonly applied: Applied
  /** Milliseconds since the epoch. */
  readonly time: number
}

/** Whether a change may go ahead, given the document as it is now; throws when it may not. */
export type Precondition = (current: Document | null) => void

/** How something is to be changed. */
export interface How {
  /** Only say what it would change. */
  readonly dryRun: boolean
  readonly by: Caller
  /** Whether the policies may become these; throws when they may not. */
  readonly mayBecome?: (model: Model) => void
}

/** How one document is to be changed. */
export interface Change extends How {
  readonly mayGoAhead: Precondition
  /** Why, in words for the history. */
  readonly reason?: string | null
}

/** A change of files, worked out from what is there. */
export interface MadeChange {
  readonly files: readonly FileChange[]
  /** Writes it down; without it nothing remembers the change. */
  readonly remember: () => Remembered | null
}

/** Works a change out when it is its turn; null: there is nothing to change. Throws when it may not go ahead. */
export type MakeChange = (onDisk: Loaded) => Promise<MadeChange | null>

interface Wanted {
  readonly make: MakeChange
  readonly how: How
}

interface ReadyChange {
  readonly compiled: Compiled
  /** The directory holds nothing else that is not in force. */
  readonly isWhole: boolean
}

export class FileExistsError extends Error {}

const NOTHING_APART: Overlay = new Map()

export class Controller {
  readonly #options: ControllerOptions
  readonly #trial: Trial
  readonly #policies: PolicyDirectory
  readonly #kept: KeptDocuments
  #inForce: InForce | null = null
  /** What was in force before the change that waits. */
  #before: InForce | null = null
  /** A change was taken back, and nobody here knows what was before it. */
  #isLost = false
  #refused: PolicyError | DirectoryError | null = null
  #lastGuarded = Number.NEGATIVE_INFINITY
  #queue: Promise<unknown> = Promise.resolve()
  readonly #together = new Gathered<Wanted>(
    (work) => this.#inTurn(work),
    (asked) => this.#changeTogether(asked),
  )

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
    return this.#changeDocument(document.kind, document.name, 'changed', change, (existing, textOf) =>
      putChange(existing, textOf, document),
    )
  }

  /** Removes a document. @throws what `apply` throws, and what the precondition throws */
  delete(kind: Kind, name: string, change: Change): Promise<Plan | null> {
    return this.#changeDocument(kind, name, 'removed', change, (existing, textOf) =>
      existing === null ? null : deleteChange(existing, textOf),
    )
  }

  /**
   * Carries a change of files out, as a whole, or only says what it would change. What somebody edits by hand
   * meanwhile, and is not in force, stays out of it.
   * @throws what `apply` throws, what `make` throws, EditedByHandError, HeldError and UnwritableError
   */
  changeFiles(make: MakeChange, how: How): Promise<Plan | null> {
    return this.#inTurn(() => this.#changeFiles(make, how))
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

  #changeDocument(
    kind: Kind,
    name: string,
    does: 'changed' | 'removed',
    { mayGoAhead, reason = null, ...how }: Change,
    plan: (existing: ReturnType<typeof findDocument>, textOf: (path: string) => string) => FileChange | null,
  ): Promise<Plan | null> {
    const { directory, keeper } = this.#options
    const make: MakeChange = async (onDisk) => {
      const existing = findDocument(onDisk, kind, name)
      mayGoAhead(existing?.document ?? null)
      const at = existing?.source.origin.file
      const known = at === undefined ? null : await readFile(join(directory, at), 'utf8')
      const change = plan(existing, () => known ?? '')
      if (change === null) return null
      if (existing === null && onDisk.documents.some(({ source }) => source.origin.file === change.path)) {
        throw new FileExistsError(`the file ${change.path} holds other documents; nothing was changed`)
      }
      const before = known ?? (await readFile(join(directory, change.path), 'utf8').catch(() => null))
      await keeper?.mustBeCommitted(new Map([[change.path, before]]))
      if (before === change.text) return { files: [change], remember: () => null }
      const subject = `${kind} ${name}: ${existing === null ? 'added' : does}`
      const files = [{ ...change, before }]
      return {
        files: [change],
        remember: () => keeper?.begin({ by: how.by, subject, reason, files }) ?? null,
      }
    }
    // Other documents decide about each other: what is allowed of them depends on which comes first.
    if (kind !== 'exemption' || how.dryRun) return this.changeFiles(make, how)
    return this.#together.add({ make, how }).then(() => null)
  }

  async #changeFiles(make: MakeChange, how: How): Promise<Plan | null> {
    if (!how.dryRun) this.#trial.mustBeSettled()
    const onDisk = await this.#policies.load()
    const made = await make(onDisk)
    if (made === null) return null
    const ready = await this.#prepareChange(onDisk, made.files, how.mayBecome)
    if (how.dryRun) return this.#planOf(ready.compiled)
    await this.#carryOut(ready, made, how.by)
    return null
  }

  /**
   * Changes that waited at the same time: one look at the directory, one change of the kernel, one journal entry of them
   * all. Where something keeps them from going together, each goes alone.
   */
  async #changeTogether(asked: readonly Asked<Wanted>[]): Promise<void> {
    const answered = asked.length > 1 ? await this.#changeAtOnce(asked) : []
    for (const one of asked.filter((other) => !answered.includes(other))) {
      const { make, how } = one.what
      await this.#changeFiles(make, how).then(() => one.resolve(), one.reject)
    }
  }

  /** Answers those that have had their answer. */
  async #changeAtOnce(asked: readonly Asked<Wanted>[]): Promise<readonly Asked<Wanted>[]> {
    const group: Asked<Wanted>[] = []
    const made: MadeChange[] = []
    const paths = new Set<string>()
    let isSent = false
    try {
      this.#trial.mustBeSettled()
      const onDisk = await this.#policies.load()
      for (const one of asked) {
        const change = await one.what.make(onDisk).catch(() => null)
        // Refused, or the second of one file: it is looked at again when it goes alone.
        if (change === null || change.files.some(({ path }) => paths.has(path))) continue
        for (const { path } of change.files) paths.add(path)
        group.push(one)
        made.push(change)
      }
      if (group.length === 0) return []
      const files = made.flatMap((one) => one.files)
      const ready = await this.#prepareChange(onDisk, files, (model) => {
        for (const { what } of group) what.how.mayBecome?.(model)
      })
      const by = allOf(group.map(({ what }) => what.how.by))
      await this.#carryOut(ready, { files, remember: () => this.#rememberAll(made) }, by, () => {
        isSent = true
      })
      for (const one of group) one.resolve()
    } catch (error) {
      // Where the kernel may have changed, a second try would find what the first has left.
      if (!isSent) return []
      for (const one of group) one.reject(error)
    }
    return group
  }

  #rememberAll(made: readonly MadeChange[]): Remembered | null {
    const { keeper } = this.#options
    const each = () => made.flatMap(({ remember }) => remember() ?? [])
    const remembered = keeper?.together(each) ?? each()
    return {
      async done() {
        for (const one of remembered) await one.done()
      },
      cancel() {
        for (const one of remembered) one.cancel()
      },
    }
  }

  /** What the directory becomes, without what somebody edits by hand meanwhile. */
  async #prepareChange(
    onDisk: Loaded,
    files: readonly FileChange[],
    mayBecome: How['mayBecome'],
  ): Promise<ReadyChange> {
    const { keeper } = this.#options
    const apart = keeper === undefined ? NOTHING_APART : editedApart(onDisk, this.#inForce?.loaded ?? null)
    const clash = files.filter(({ path }) => apart.has(path)).map(({ path }) => path)
    if (clash.length > 0) throw new EditedByHandError(clash)
    const compiled = await this.#policies.prepare(new Map([...apart, ...overlayOf(files)]), onDisk)
    mayBecome?.(compiled.model)
    return { compiled, isWhole: apart.size === 0 }
  }

  async #carryOut(
    { compiled, isWhole }: ReadyChange,
    { files, remember }: MadeChange,
    by: Caller,
    onSent = () => {},
  ): Promise<void> {
    await this.#mustNotSmuggle(compiled)
    const staged = await stageChanges(this.#options.directory, files)
    let remembered: Remembered | null = null
    try {
      remembered = remember()
      await this.#enforce(compiled, by).catch((error) => {
        if (!(error instanceof KernelError && error.fault === 'refused')) onSent()
        throw error
      })
      onSent()
      await staged.commit()
    } catch (error) {
      await staged.discard()
      remembered?.cancel()
      throw error
    }
    if (isWhole) this.#refused = null
    await remembered?.done()
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

  async #enforce(compiled: Compiled, by: Caller): Promise<InForce> {
    const holdAgain = await this.#trial.release()
    try {
      const applied = await this.#options.enforcer.apply(compiled.ruleset)
      this.#kept.keep(compiled.loaded)
      return this.#nowInForce(compiled, applied, by)
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

  #nowInForce({ loaded, model, ruleset }: Compiled, applied: Applied, by: Caller): InForce {
    const before = this.#inForce?.applied.bootFileError ?? null
    this.#inForce = { loaded, model, ruleset, applied, time: this.#options.now() }
    this.#options.onApplied?.(this.#inForce, by)
    this.#tellOfBootFile(before, applied.bootFileError)
    return this.#inForce
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
      return work()
    })
    this.#queue = turn.catch(() => {})
    return turn
  }
}

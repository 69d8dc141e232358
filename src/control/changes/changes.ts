/**
 * Changes of documents and files: worked out from what is there, checked as if they were there, and carried out. Exemptions
 * that wait at the same time go together.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { allOf, type Caller } from '../../caller.ts'
import type { ChangeKeeper } from '../../history/change-keeper.ts'
import { EditedByHandError } from '../../history/history-error.ts'
import { KernelError } from '../../kernel/kernel-error.ts'
import type { Compiled, Plan } from '../../plan/plan.ts'
import type { FileChange } from '../../policy/file-change.ts'
import { DirectoryError, type Overlay } from '../../policy/files.ts'
import type { Loaded } from '../../policy/load.ts'
import type { Document, Kind } from '../../policy/schema.ts'
import { carryOut } from './carry-out.ts'
import type { Change, How, MadeChange, MakeChange } from './change.ts'
import { deleteChange, findDocument, overlayOf, putChange } from './document-change.ts'
import { editedApart } from './edited-apart.ts'
import { type Asked, Gathered } from './gathered.ts'
import { mustBePlain } from './plain-files.ts'
import type { PolicyDirectory } from './policy-directory.ts'

/** The file in which a new document would be holds others. */
export class FileExistsError extends Error {}

/** The rules that changes come into, as their one owner lets them be changed. */
export interface Rules {
  readonly inForce: Compiled | null
  /** Does it when nothing else is under way. */
  inTurn<T>(work: () => Promise<T>): Promise<T>
  /** @throws ConfirmationPendingError */
  mustBeSettled(): void
  /** @throws HeldError */
  mustNotSmuggle(compiled: Compiled): Promise<void>
  /** @throws KernelError */
  enforce(compiled: Compiled, by: Caller): Promise<unknown>
  /** Files and rules are what they shall be. */
  made(): void
  planOf(after: Compiled): Promise<Plan>
  /** What is in force is what the directory holds. */
  isWhole(): void
}

export interface ChangesOptions {
  readonly directory: string
  readonly keeper: ChangeKeeper | undefined
  readonly policies: PolicyDirectory
  readonly rules: Rules
}

interface Wanted {
  readonly make: MakeChange
  readonly how: How
}

interface ReadyChange {
  readonly onDisk: Loaded
  /** What somebody edits by hand, as it is in force. */
  readonly apart: Overlay
  readonly compiled: Compiled
}

const NOTHING_APART: Overlay = new Map()

export class Changes {
  readonly #options: ChangesOptions
  readonly #together: Gathered<Wanted>

  constructor(options: ChangesOptions) {
    this.#options = options
    this.#together = new Gathered(
      (work) => options.rules.inTurn(work),
      (asked) => this.#changeTogether(asked),
    )
  }

  put(document: Document, change: Change): Promise<Plan | null> {
    return this.#changeDocument(document.kind, document.name, 'changed', change, (existing, textOf) =>
      putChange(existing, textOf, document),
    )
  }

  delete(kind: Kind, name: string, change: Change): Promise<Plan | null> {
    return this.#changeDocument(kind, name, 'removed', change, (existing, textOf) =>
      existing === null ? null : deleteChange(existing, textOf),
    )
  }

  changeFiles(make: MakeChange, how: How): Promise<Plan | null> {
    return this.#options.rules.inTurn(() => this.#changeFiles(make, how))
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
      const known = at === undefined ? null : await readNow(directory, at)
      const change = plan(existing, () => known ?? '')
      if (change === null) return null
      await this.#mustBePlain([change])
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
    const { policies, rules } = this.#options
    if (!how.dryRun) rules.mustBeSettled()
    const onDisk = await policies.load()
    const made = await make(onDisk)
    if (made === null) return null
    await this.#mustBePlain(made.files)
    const ready = await this.#prepare(onDisk, made.files)
    how.mayBecome?.(ready.compiled.model)
    if (how.dryRun) return rules.planOf(ready.compiled)
    const [fault = null] = await this.#carryOut(ready, [made], how.by)
    if (fault !== null) throw fault
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
    const { policies, rules } = this.#options
    const group: Asked<Wanted>[] = []
    const made: MadeChange[] = []
    const paths = new Set<string>()
    let isSent = false
    try {
      rules.mustBeSettled()
      const onDisk = await policies.load()
      for (const one of asked) {
        const change = await one.what.make(onDisk).catch(() => null)
        // Refused, or the second of one file: it is looked at again when it goes alone.
        if (change === null || change.files.some(({ path }) => paths.has(path))) continue
        for (const { path } of change.files) paths.add(path)
        group.push(one)
        made.push(change)
      }
      if (group.length === 0) return []
      const ready = await this.#prepare(
        onDisk,
        made.flatMap(({ files }) => files),
      )
      for (const { what } of group) what.how.mayBecome?.(ready.compiled.model)
      const by = allOf(group.map(({ what }) => what.how.by))
      const faults = await this.#carryOut(ready, made, by, () => {
        isSent = true
      })
      for (const [index, one] of group.entries()) {
        const fault = faults[index] ?? null
        if (fault === null) one.resolve()
        else one.reject(fault)
      }
    } catch (error) {
      // Where the kernel may have changed, a second try would find what the first has left.
      if (!isSent) return []
      for (const one of group) one.reject(error)
    }
    return group
  }

  /** Git holds a link against the file that it leads to, so of what is remembered links do not even go. */
  #mustBePlain(files: readonly FileChange[]): Promise<void> {
    const { directory, keeper } = this.#options
    return mustBePlain(directory, files, keeper === undefined)
  }

  /** What the directory becomes, without what somebody edits by hand meanwhile. */
  async #prepare(onDisk: Loaded, files: readonly FileChange[]): Promise<ReadyChange> {
    const { keeper, policies, rules } = this.#options
    const apart = keeper === undefined ? NOTHING_APART : editedApart(onDisk, rules.inForce?.loaded ?? null)
    const clash = files.filter(({ path }) => apart.has(path)).map(({ path }) => path)
    if (clash.length > 0) throw new EditedByHandError(clash)
    const compiled = await policies.prepare(new Map([...apart, ...overlayOf(files)]), onDisk)
    return { onDisk, apart, compiled }
  }

  /** Answers for each why it was not made, or null. @throws what keeps all of them from being made */
  async #carryOut(
    { onDisk, apart, compiled }: ReadyChange,
    changes: readonly MadeChange[],
    by: Caller,
    onSent = () => {},
  ): Promise<(Error | null)[]> {
    const { directory, keeper, policies, rules } = this.#options
    await rules.mustNotSmuggle(compiled)
    const faults = await carryOut(changes, {
      directory,
      keeper,
      enforce: () =>
        rules.enforce(compiled, by).catch((error) => {
          if (!(error instanceof KernelError && error.fault === 'refused')) onSent()
          throw error
        }),
      // Their files are there, whatever the tests say of them without the others.
      async enforceOnly(files) {
        const left = await policies.prepareUntested(new Map([...apart, ...overlayOf(files)]), onDisk)
        await rules.enforce(left, by)
      },
    })
    if (apart.size === 0) rules.isWhole()
    rules.made()
    return faults
  }
}

/** @throws DirectoryError when the file has gone since it was looked at */
function readNow(directory: string, path: string): Promise<string> {
  return readFile(join(directory, path), 'utf8').catch(({ message }: Error) => {
    throw new DirectoryError(`cannot read ${path}: ${message}; nothing was changed`)
  })
}

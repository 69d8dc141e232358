/**
 * The one way by which a change reaches the kernel: read, check, test, compile, apply, and only then keep. Changes
 * wait for each other; readers see the model that is in force.
 */
import { access, constants, mkdir, readFile, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { compile } from '../compile/compile.ts'
import { machineIn } from '../compile/compile-policies.ts'
import type { CompileOptions } from '../compile/options.ts'
import { type StagedFile, stageFile, syncFolder } from '../kernel/atomic-file.ts'
import type { Applied, Enforcer } from '../kernel/enforcer.ts'
import { type Compiled, makePlan, NOTHING, type Plan } from '../plan/plan.ts'
import type { TriedSource } from '../plan/traffic-changes.ts'
import type { Overlay } from '../policy/files.ts'
import { type Loaded, loadPolicies } from '../policy/load.ts'
import { runPolicyTests } from '../policy/policy-tests.ts'
import type { Document, Kind } from '../policy/schema.ts'
import { deleteChange, type FileChange, findDocument, putChange } from './document-change.ts'
import { PolicyError } from './policy-error.ts'

export interface ControllerOptions {
  readonly directory: string
  readonly compile: CompileOptions
  readonly enforcer: Enforcer
  /** Ids of local users by name. */
  readonly findUserIds: (names: readonly string[]) => Promise<ReadonlyMap<string, number>>
  readonly now: () => number
}

/** What is in force, and how it came to be. */
export interface InForce extends Compiled {
  readonly applied: Applied
  /** Milliseconds since the epoch. */
  readonly time: number
}

/** Whether a change may go ahead, given the document as it is now; throws when it may not. */
export type Precondition = (current: Document | null) => void

export class FileExistsError extends Error {}

/** The policy directory cannot be written; nothing was changed. */
export class UnwritableError extends Error {}

export class Controller {
  readonly #options: ControllerOptions
  #inForce: InForce | null = null
  #queue: Promise<unknown> = Promise.resolve()

  constructor(options: ControllerOptions) {
    this.#options = options
  }

  get inForce(): InForce | null {
    return this.#inForce
  }

  /** Applies the directory as it stands. @throws PolicyError, KernelError or DirectoryError; then nothing has changed */
  apply(): Promise<InForce> {
    return this.#inTurn(async () => this.#enforce(await this.#prepare()))
  }

  /** Creates or replaces a document. @throws what `apply` throws, and what the precondition throws */
  put(document: Document, mayGoAhead: Precondition, dryRun: boolean): Promise<Plan | null> {
    return this.#change(document.kind, document.name, mayGoAhead, dryRun, (existing, textOf) =>
      putChange(existing, textOf, document),
    )
  }

  /** Removes a document. @throws what `apply` throws, and what the precondition throws */
  delete(kind: Kind, name: string, mayGoAhead: Precondition, dryRun: boolean): Promise<Plan | null> {
    return this.#change(kind, name, mayGoAhead, dryRun, (existing, textOf) =>
      existing === null ? null : deleteChange(existing, textOf),
    )
  }

  /** What `apply` would change now. @throws PolicyError, KernelError or DirectoryError */
  plan(): Promise<Plan> {
    return this.#inTurn(async () => this.#planOf(await this.#prepare()))
  }

  /** Runs work when no change is under way, and holds changes back until it is done. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#inTurn(work)
  }

  /** Carries a change out, or only says what it would change. */
  #change(
    kind: Kind,
    name: string,
    mayGoAhead: Precondition,
    dryRun: boolean,
    plan: (existing: ReturnType<typeof findDocument>, textOf: (path: string) => string) => FileChange | null,
  ): Promise<Plan | null> {
    return this.#inTurn(async () => {
      const { directory } = this.#options
      const before = await this.#load()
      const existing = findDocument(before, kind, name)
      mayGoAhead(existing?.document ?? null)
      const text =
        existing === null ? '' : await readFile(join(directory, existing.source.origin.file), 'utf8')
      const change = plan(existing, () => text)
      if (change === null) return null
      if (existing === null && before.documents.some(({ source }) => source.origin.file === change.path)) {
        throw new FileExistsError(`the file ${change.path} holds other documents; nothing was changed`)
      }
      const compiled = await this.#prepare(new Map([[change.path, change.text]]))
      if (dryRun) return this.#planOf(compiled)
      // The new file waits, safely on the disk, until the kernel has agreed.
      const path = join(directory, change.path)
      if (change.text === null) {
        // Asked before the kernel is changed: whoever may write the folder may remove what is in it.
        await access(dirname(path), constants.W_OK).catch((error: Error) => {
          throw new UnwritableError(`cannot remove ${path}: ${error.message}; nothing was changed`)
        })
        await this.#enforce(compiled)
        await unlink(path)
        await syncFolder(dirname(path))
        return null
      }
      const staged = await stage(path, change.text)
      try {
        await this.#enforce(compiled)
        await staged.commit()
        return null
      } catch (error) {
        await staged.discard()
        throw error
      }
    })
  }

  #load(overlay: Overlay = new Map()): Promise<Loaded> {
    const { directory, now, compile } = this.#options
    return loadPolicies(directory, { now: now(), overlay, outsideInterfaces: compile.outsideInterfaces })
  }

  async #prepare(overlay?: Overlay): Promise<Compiled> {
    const { findUserIds, now } = this.#options
    const loaded = await this.#load(overlay)
    if (loaded.model === null) throw new PolicyError(loaded.diagnostics)
    const failed = runPolicyTests(loaded.model, now()).filter(({ passed }) => !passed)
    if (failed.length > 0) throw new PolicyError(loaded.diagnostics, failed)
    const users = [...new Set(loaded.model.relays.flatMap((relay) => relay.users))]
    const options = { ...this.#options.compile, uids: await findUserIds(users) }
    return { loaded, model: loaded.model, ruleset: compile(loaded.model, options) }
  }

  async #planOf(after: Compiled): Promise<Plan> {
    const { enforcer, now } = this.#options
    return makePlan(this.#inForce ?? NOTHING, after, now(), await triedSources(this.#inForce, enforcer))
  }

  async #enforce({ loaded, model, ruleset }: Compiled): Promise<InForce> {
    const applied = await this.#options.enforcer.apply(ruleset)
    this.#inForce = { loaded, model, ruleset, applied, time: this.#options.now() }
    return this.#inForce
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(work)
    this.#queue = turn.catch(() => {})
    return turn
  }
}

async function stage(path: string, text: string): Promise<StagedFile> {
  try {
    await mkdir(dirname(path), { recursive: true })
    return await stageFile(path, text)
  } catch (error) {
    throw new UnwritableError(`cannot write ${path}: ${(error as Error).message}; nothing was changed`)
  }
}

/** Who tried port 25 in the last 24 hours, as far as the kernel keeps count of machines. */
async function triedSources(inForce: InForce | null, enforcer: Enforcer): Promise<TriedSource[]> {
  const sets = inForce?.ruleset.learned.filter(({ holds }) => holds === 'counter') ?? []
  const tried: TriedSource[] = []
  for (const { name } of sets) {
    for (const { address, packets } of await enforcer.countSources(name)) {
      const machine = machineIn(name, address)
      if (machine !== null) tried.push({ machine, attempts: packets })
    }
  }
  return tried
}

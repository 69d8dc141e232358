/**
 * Keeps the policy directory and a remote repository in step: what is there comes here when it is sound, and what was
 * changed here goes there. Neither side is ever overwritten.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Caller } from '../../caller.ts'
import type { Remembered } from '../../history/change-keeper.ts'
import type { History } from '../../history/history.ts'
import { ConflictError, EditedByHandError, GitError, RewrittenError } from '../../history/history-error.ts'
import type { Journal } from '../../history/journal.ts'
import { rebase } from '../../history/rebase.ts'
import { moveBranch } from '../../history/reconcile.ts'
import type { Remote } from '../../history/remote.ts'
import type { FileDifference } from '../../history/repository.ts'
import { mustBeSigned } from '../../history/signed.ts'
import { type Diagnostic, diagnostic } from '../../policy/diagnostic.ts'
import type { FileChange } from '../../policy/file-change.ts'
import { LIMITS } from '../../policy/files.ts'
import { PolicyError } from '../../policy/policy-error.ts'
import type { Controller } from '../controller.ts'

export interface SyncOptions {
  readonly history: History
  readonly journal: Journal
  readonly remote: Remote
  readonly controller: Pick<Controller, 'changeFiles'>
  readonly gateway: string
  readonly now: () => number
  readonly onPulled: (pulled: {
    readonly from: string | null
    readonly to: string
    readonly by: Caller
  }) => void
  readonly onPushed: (revision: string) => void
  /** The state became another one that somebody should know of. */
  readonly onState: (status: SyncStatus) => void
}

/** `refused`: the remote's head does not pass, or its branch was rewritten; `diverged`: both sides changed the same. */
export const SYNC_STATES = [
  'unknown',
  'in-step',
  'refused',
  'diverged',
  'edited-by-hand',
  'unreachable',
] as const
export type SyncState = (typeof SYNC_STATES)[number]

export interface SyncStatus {
  readonly state: SyncState
  /** When it was looked last, in milliseconds since the epoch. */
  readonly looked: number | null
  /** The remote's head; null: not known. */
  readonly revision: string | null
  /** Commits here that the remote does not have. */
  readonly ahead: number
  readonly reason: string | null
  readonly diagnostics: readonly Diagnostic[]
  /** The branch at the remote that has what is here, while both sides differ. */
  readonly kept: string | null
}

const UNKNOWN: SyncStatus = {
  state: 'unknown',
  looked: null,
  revision: null,
  ahead: 0,
  reason: null,
  diagnostics: [],
  kept: null,
}
/** When the remote moves on while we push. */
const TRIES = 3

export class Sync {
  readonly #options: SyncOptions
  #status = UNKNOWN
  #inStepAt: number | null = null
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: SyncOptions) {
    this.#options = options
  }

  get status(): SyncStatus {
    return this.#status
  }

  /** When both sides were last found to be the same, in milliseconds since the epoch; null: not yet. */
  get inStepAt(): number | null {
    return this.#inStepAt
  }

  get remote(): Remote {
    return this.#options.remote
  }

  /**
   * Fetches, brings what is new into force, and pushes what is new here.
   * @throws PolicyError, UnsignedError, SignersError, RewrittenError, ConflictError, EditedByHandError, GitError, or what a change throws; then the
   *   last good revision stays in force
   */
  pull(by: Caller): Promise<SyncStatus> {
    const turn = this.#turn.then(() => this.#pull(by))
    this.#turn = turn.catch(() => {})
    return turn
  }

  async #pull(by: Caller): Promise<SyncStatus> {
    const { remote, history } = this.#options
    const { repository } = history
    let revision: string | null = this.#status.revision
    try {
      for (let tries = 1; ; tries++) {
        await remote.fetch()
        revision = await repository.commitOf(remote.ref)
        if (revision === null) throw new GitError(`the remote has no branch ${remote.config.branch}`)
        await this.#mustGoForwards(revision)
        await this.#take(revision, by)
        const { commit } = await repository.head()
        if (commit === null || commit === revision || !remote.config.push) break
        if (await remote.push(commit)) {
          this.#options.onPushed(commit)
          revision = commit
          await repository.git.read(['update-ref', remote.ref, commit])
          break
        }
        if (tries === TRIES) throw new GitError('the remote moves on faster than can be pushed to it')
      }
      await repository.git.read(['update-ref', remote.inStepRef, revision])
      this.#inStepAt = this.#options.now()
      await this.#say({ ...UNKNOWN, state: 'in-step', revision })
      return this.#status
    } catch (error) {
      await this.#say(await this.#refusal(error as Error, revision))
      throw error
    }
  }

  /**
   * What the remote had once and has no longer was taken out there by somebody: it is not ours to push again, nor is it for
   * a poll to bring older rules into force. Whoever resets the work tree agrees.
   * @throws RewrittenError
   */
  async #mustGoForwards(theirs: string): Promise<void> {
    const { history, remote } = this.#options
    const { repository } = history
    const known = await repository.commitOf(remote.inStepRef)
    if (known === null || known === theirs || (await repository.isAncestor(known, theirs))) return
    const { commit } = await repository.head()
    if (commit === null || !(await repository.isAncestor(known, commit))) return
    throw new RewrittenError(remote.config.branch, known)
  }

  async #take(theirs: string, by: Caller): Promise<void> {
    const { controller, history, journal, remote, onPulled } = this.#options
    const { repository } = history
    let pulled: { from: string | null; to: string } | null = null
    await controller.changeFiles(
      async () => {
        await history.recorder.settle()
        const { branch, commit: from } = await repository.head()
        if (branch !== `refs/heads/${remote.config.branch}`)
          throw new GitError(`the work tree is on ${branch ?? 'no branch'}, not on ${remote.config.branch}`)
        if (from !== null && (from === theirs || (await repository.isAncestor(theirs, from)))) return null
        const { config: signers } = remote
        if (signers.allowedSigners !== null || signers.allowedKeys !== null)
          await mustBeSigned(repository, { from, to: theirs, signers })
        const to = await this.#target(from, theirs)
        const files = await this.#filesOf(await repository.differences(from, to))
        const remember = (): Remembered => {
          const number = journal.add({ kind: 'advance', from, to })
          return {
            done: async () => {
              await moveBranch(repository, { from, to })
              journal.remove([number])
              await history.recorder.refresh()
              pulled = { from, to }
            },
            cancel: () => journal.cancel(number),
          }
        }
        return { files, remember }
      },
      { by, dryRun: false },
    )
    if (pulled !== null) onPulled({ ...(pulled as { from: string | null; to: string }), by })
  }

  /** Where the branch goes: theirs, or ours on top of theirs. @throws ConflictError */
  async #target(from: string | null, theirs: string): Promise<string> {
    const { repository } = this.#options.history
    if (from === null || (await repository.isAncestor(from, theirs))) return theirs
    const base = await repository.mergeBase(from, theirs)
    if (base === null) throw new ConflictError('the remote has another history than this directory', [])
    return rebase(repository, { base, ours: from, theirs })
  }

  /** @throws PolicyError for what cannot be a policy; EditedByHandError */
  async #filesOf(differences: readonly FileDifference[]): Promise<FileChange[]> {
    const { repository, recorder } = this.#options.history
    const wrong: Diagnostic[] = []
    const say = (file: string, code: Diagnostic['code'], message: string) =>
      wrong.push(diagnostic({ file, line: 1, column: 1 }, code, message))
    const contents = await repository.contents(
      differences.flatMap(({ after }) => (after === null ? [] : [after.id])),
    )
    const onDisk = new Map<string, Uint8Array | null>()
    const files: FileChange[] = []
    for (const { path, after } of differences) {
      if (after !== null && !/^100/.test(after.mode)) {
        say(path, 'unreadable-file', 'a link or a repository of its own cannot be pulled')
        continue
      }
      const there = await readFile(join(repository.git.directory, path)).catch(() => null)
      const bytes = after === null ? null : (contents.get(after.id) ?? Buffer.alloc(0))
      // What is there already, and was not committed here, is not in the way.
      if (there === null || bytes === null || !bytes.equals(there)) onDisk.set(path, there)
      const isYaml = /\.ya?ml$/.test(path) && !path.split('/').some((part) => part.startsWith('.'))
      if (isYaml && bytes !== null && bytes.length > LIMITS.yamlBytes)
        say(
          path,
          'file-too-large',
          `the file has ${bytes.length} bytes; at most ${LIMITS.yamlBytes} are read`,
        )
      const text = bytes === null ? null : textOf(bytes)
      if (isYaml && bytes !== null && text === null) say(path, 'bad-encoding', 'the file is not UTF-8 text')
      files.push({ path, text: text ?? bytes, ...(after?.mode === '100755' ? { mode: 0o755 } : {}) })
    }
    if (wrong.length > 0) throw new PolicyError(wrong)
    await recorder.mustBeCommitted(onDisk)
    return files
  }

  async #refusal(error: Error, revision: string | null): Promise<SyncStatus> {
    const state = stateOf(error)
    const status = { ...UNKNOWN, state, revision, reason: error.message }
    if (error instanceof PolicyError) return { ...status, diagnostics: error.diagnostics }
    return state === 'diverged' ? { ...status, kept: await this.#keepOurs() } : status
  }

  /** Our side on a branch of its own at the remote, for somebody to merge. */
  async #keepOurs(): Promise<string | null> {
    const { remote, history, gateway } = this.#options
    const { commit } = await history.repository.head()
    const branch = `egress25/${gateway.replace(/[^A-Za-z0-9-]+/g, '-')}`
    if (commit === null || !remote.config.push) return null
    return remote.push(commit, `refs/heads/${branch}`).then(
      () => branch,
      () => null,
    )
  }

  async #say(status: SyncStatus): Promise<void> {
    const { history, now, onState, remote } = this.#options
    const { repository } = history
    const { commit } = await repository.head().catch(() => ({ commit: null }))
    const known = await repository.commitOf(remote.ref).catch(() => null)
    const ahead =
      commit === null || known === null ? 0 : await repository.countBetween(known, commit).catch(() => 0)
    const before = this.#status
    this.#status = { ...status, ahead, looked: now() }
    const isNews = before.state !== status.state || before.reason !== status.reason
    if (isNews && (before.state !== 'unknown' || status.state !== 'in-step')) onState(this.#status)
  }
}

function stateOf(error: Error): SyncState {
  if (error instanceof ConflictError) return 'diverged'
  if (error instanceof EditedByHandError) return 'edited-by-hand'
  return error instanceof GitError ? 'unreachable' : 'refused'
}

/** null: it is no text. */
function textOf(bytes: Uint8Array): string | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    return text.includes('\0') ? null : text
  } catch {
    return null
  }
}

/** The history of a policy directory: who changed what, when and why; and the way back. */
import { randomBytes } from 'node:crypto'
import type { ChangeKeeper, Intent, Remembered } from './change-keeper.ts'
import { type ChangeRecord, signatureOf } from './change-record.ts'
import { type ChangedDocument, changedDocuments } from './changed-documents.ts'
import { ConflictError, UnchangeableError } from './history-error.ts'
import { type MergedFile, replay } from './merge.ts'
import type { Recorder } from './recorder.ts'
import type { FileDifference, Repository } from './repository.ts'
import { listRevisions, patchOf, type Revision } from './revisions.ts'

export interface HistoryOptions {
  readonly repository: Repository
  readonly recorder: Recorder
  readonly gateway: string
  readonly now: () => number
}

export interface RevisionDetail extends Revision {
  readonly files: readonly { readonly path: string; readonly change: 'added' | 'changed' | 'removed' }[]
  readonly documents: readonly ChangedDocument[]
  /** As `git diff` shows it; null: it is too long. */
  readonly patch: string | null
}

export interface RevisionPage {
  readonly revisions: readonly Revision[]
  /** For the page after it; null: there is none. */
  readonly next: { readonly head: string; readonly skip: number } | null
}

export class History implements ChangeKeeper {
  readonly #options: HistoryOptions

  constructor(options: HistoryOptions) {
    this.#options = options
  }

  get repository(): Repository {
    return this.#options.repository
  }

  get recorder(): Recorder {
    return this.#options.recorder
  }

  async mustBeCommitted(files: ReadonlyMap<string, string | Uint8Array | null>): Promise<void> {
    const [path] = await this.repository.filtered([...files.keys()])
    if (path !== undefined)
      throw new UnchangeableError(path, 'git passes it through a filter, and none is run here')
    await this.recorder.mustBeCommitted(files)
  }

  begin({ by, subject, reason, reverts = null, files }: Intent): Remembered {
    const { gateway, now, repository } = this.#options
    const text = (content: string | Uint8Array) =>
      typeof content === 'string' ? content : Buffer.from(content).toString('utf8')
    const record: ChangeRecord = {
      id: randomBytes(16).toString('hex'),
      time: now(),
      author: signatureOf(by, gateway),
      subject,
      reason,
      requestId: by.requestId,
      reverts,
      files: files.map((file) => ({
        path: file.path,
        before: file.before === null ? null : repository.blobId(file.before),
        text: file.text === null ? null : text(file.text),
      })),
    }
    return this.recorder.begin(record)
  }

  together<T>(work: () => T): T {
    return this.recorder.together(work)
  }

  /** The latest first, with all that was acknowledged and can be committed at present. @throws GitError */
  async list(from: RevisionPage['next'], limit: number, path: string | null): Promise<RevisionPage> {
    await this.#settleIfPossible()
    const head = from?.head ?? (await this.repository.head()).commit
    if (head === null) return { revisions: [], next: null }
    const skip = from?.skip ?? 0
    const found = await listRevisions(this.repository, { from: head, skip, limit: limit + 1, path })
    const isMore = found.length > limit
    return { revisions: found.slice(0, limit), next: isMore ? { head, skip: skip + limit } : null }
  }

  /** @throws NoRevisionError or GitError */
  async show(revision: string): Promise<RevisionDetail> {
    await this.#settleIfPossible()
    const { repository } = this
    const id = await repository.resolve(revision)
    const [found] = await listRevisions(repository, { from: id, skip: 0, limit: 1, path: null })
    if (found === undefined) throw new Error(`${id} is not in the log`)
    const parent = found.parents[0] ?? null
    const differences = await repository.differences(parent, id)
    return {
      ...found,
      files: differences.map(({ path, before, after }) => ({
        path,
        change: before === null ? 'added' : after === null ? 'removed' : 'changed',
      })),
      documents: await documentsOf(repository, differences),
      patch: await patchOf(repository, parent ?? (await repository.emptyTree()), id),
    }
  }

  /** What cannot be committed waits, and the status says so: the rest can be read all the same. */
  async #settleIfPossible(): Promise<void> {
    await this.recorder.settle().catch(() => {})
  }

  /**
   * What files become when a revision is taken back.
   * @throws NoRevisionError, ConflictError when the same lines were changed since or it cannot be taken back at all, or GitError
   */
  async revertOf(revision: string): Promise<{ readonly revision: Revision; readonly files: MergedFile[] }> {
    await this.recorder.settle()
    const { repository } = this
    const id = await repository.resolve(revision)
    const [found] = await listRevisions(repository, { from: id, skip: 0, limit: 1, path: null })
    const { branch, commit } = await repository.head()
    if (found === undefined) throw new Error(`${id} is not in the log`)
    const nothing = (why: string) => new ConflictError(`${why}; nothing was changed`, [])
    if (commit === null || !(await repository.isAncestor(id, commit)))
      throw nothing(`it is not in ${branch?.replace('refs/heads/', '') ?? 'what is checked out'}`)
    const [parent = null] = found.parents
    // Nobody who takes a change back means that port 25 shall be open to everybody.
    if (parent === null && found.requestId === null)
      throw nothing('it is where the history begins: without it no policy would be left')
    if ((await repository.differences(parent, id)).length === 0) throw nothing('it changed no file')
    const before = parent ?? (await repository.emptyTree())
    return { revision: found, files: await replay(repository, id, before, await repository.files(commit)) }
  }
}

/** The documents that differ; files that are very large hold lists, and are not looked into. */
export async function documentsOf(
  repository: Repository,
  differences: readonly FileDifference[],
): Promise<ChangedDocument[]> {
  const yaml = differences.filter(({ path }) => /\.ya?ml$/.test(path))
  const contents = await repository.contents(
    yaml.flatMap(({ before, after }) => [before, after].flatMap((blob) => (blob === null ? [] : [blob.id]))),
  )
  const text = (id: string | undefined) =>
    id === undefined ? null : (contents.get(id)?.toString('utf8') ?? null)
  return changedDocuments(
    yaml.map(({ path, before, after }) => ({ path, before: text(before?.id), after: text(after?.id) })),
  )
}

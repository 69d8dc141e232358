/**
 * Brings changes into git, behind the one who asked for them: a change is acknowledged when it is in its file, in the
 * kernel and in the journal. What has come together meanwhile becomes commits with one process, one commit for each
 * change; what cannot be committed waits in the journal, over restarts too.
 */
import { randomUUID } from 'node:crypto'
import { asKept } from './as-kept.ts'
import { type ChangeRecord, messageOf, type Signature, TRAILERS } from './change-record.ts'
import { addCommits, commitOf, followInIndex } from './commit.ts'
import { EditedByHandError, GitError } from './history-error.ts'
import type { Journal } from './journal.ts'
import type { Head, Repository } from './repository.ts'

export interface RecorderOptions {
  readonly repository: Repository
  readonly journal: Journal
  readonly committer: Signature
  readonly onCommitted: (commits: readonly { readonly id: string; readonly record: ChangeRecord }[]) => void
  /** It is tried again; told once until it succeeds. */
  readonly onFailed: (error: Error) => void
}

interface Waiting {
  readonly number: number
  readonly record: ChangeRecord
  isDone: boolean
}

const FIRST_PAUSE = 500
const LONGEST_PAUSE = 60_000
/** In one process. */
const MOST_AT_ONCE = 200
/** Commits between looks at whether the repository wants to be packed. */
const PACK_EVERY = 500

export class Recorder {
  readonly #options: RecorderOptions
  #waiting: Waiting[] = []
  /** What the branch has, with what waits: ids of files by path. */
  #files = new Map<string, string>()
  #head: Head = { branch: null, commit: null }
  #failure: Error | null = null
  #pause = FIRST_PAUSE
  #timer: NodeJS.Timeout | undefined
  #turn: Promise<unknown> = Promise.resolve()
  /** After a crash, or a failure: what waits may have been committed. */
  #isUnsure = true
  #sincePacked = 0
  /** Of the changes that are written down at once; null: each is by itself. */
  #group: string | null = null
  #stopped = false

  constructor(options: RecorderOptions) {
    this.#options = options
  }

  /** How many changes git does not have yet, and why; and where the branch was when it was looked at last. */
  get status(): { readonly waiting: number; readonly failure: Error | null; readonly head: Head } {
    return { waiting: this.#waiting.length, failure: this.#failure, head: this.#head }
  }

  /** Somebody may have committed, or checked out another branch. */
  async look(): Promise<void> {
    const { branch, commit } = await this.#options.repository.head()
    if (branch !== this.#head.branch || commit !== this.#head.commit) await this.refresh()
  }

  /** Learns what is committed, and takes up what the journal has. */
  async start(records: readonly { readonly number: number; readonly record: ChangeRecord }[]): Promise<void> {
    this.#waiting = records.map((one) => ({ ...one, isDone: true }))
    await this.refresh()
    this.#wake()
  }

  /** Reads anew what the branch has: somebody may have committed. */
  async refresh(): Promise<void> {
    const { repository } = this.#options
    this.#head = await repository.head()
    this.#files = new Map(
      [...(await repository.files(this.#head.commit))].map(([path, { id }]) => [path, id]),
    )
    for (const { record } of this.#waiting) this.#follow(record)
  }

  /**
   * Whether files are as they were committed, so that a change of them has nobody else's in it.
   * @param files as they stand in the work tree; null: not there
   * @throws EditedByHandError
   */
  async mustBeCommitted(files: ReadonlyMap<string, string | Uint8Array | null>): Promise<void> {
    const { repository } = this.#options
    const edited = () =>
      [...files].flatMap(([path, content]) =>
        (content === null ? null : repository.blobId(content)) === (this.#files.get(path) ?? null)
          ? []
          : [path],
      )
    if (edited().length === 0) return
    await this.refresh()
    const left: string[] = []
    for (const path of edited()) {
      const content = files.get(path) ?? null
      const known = this.#files.get(path)
      const isKept =
        content !== null && known !== undefined && (await repository.idKept(path, content)) === known
      if (!isKept) left.push(path)
    }
    if (left.length > 0) throw new EditedByHandError(left)
  }

  /** Writes a change down before it is made. Answers what becomes of it. @throws Error when that cannot be written */
  begin(record: ChangeRecord): { done(): void; cancel(): void } {
    const { journal } = this.#options
    const group = this.#group === null ? {} : { group: this.#group }
    const number = journal.add({ kind: 'commit', ...group, ...record })
    const waiting: Waiting = { number, record, isDone: false }
    this.#waiting.push(waiting)
    return {
      done: () => {
        waiting.isDone = true
        this.#follow(record)
        this.#wake()
      },
      cancel: () => {
        this.#waiting = this.#waiting.filter((one) => one !== waiting)
        journal.cancel(number)
      },
    }
  }

  /** What the work begins is one entry of the journal: all of it, or nothing. @throws as `begin` does */
  together<T>(work: () => T): T {
    const before = [...this.#waiting]
    this.#group = randomUUID()
    try {
      return this.#options.journal.together(work)
    } catch (error) {
      this.#waiting = before
      throw error
    } finally {
      this.#group = null
    }
  }

  /** Commits what waits, now. @throws GitError when it must go on waiting */
  settle(): Promise<void> {
    return this.#inTurn(async () => {
      while (this.#waiting.some(({ isDone }) => isDone)) await this.#commitSome()
    })
  }

  /** Runs work while nothing is committed, and everything done is. @throws what the work throws, and GitError */
  settled<T>(work: () => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      while (this.#waiting.some(({ isDone }) => isDone)) await this.#commitSome()
      return work()
    })
  }

  /** Commits what waits, for at most so many milliseconds; the rest is in the journal. */
  async stop(patience: number): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patience)
    })
    await Promise.race([this.settle().catch(() => {}), late])
    clearTimeout(timer)
  }

  #wake(): void {
    if (this.#stopped || this.#timer !== undefined) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        void this.settle().then(
          () => this.#recovered(),
          (error: Error) => this.#failed(error),
        )
      },
      this.#failure === null ? 0 : this.#pause,
    )
  }

  #recovered(): void {
    this.#failure = null
    this.#pause = FIRST_PAUSE
  }

  #failed(error: Error): void {
    if (this.#failure?.message !== error.message) this.#options.onFailed(error)
    this.#failure = error
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE)
    this.#wake()
  }

  async #commitSome(): Promise<void> {
    const { repository, committer, onCommitted } = this.#options
    const busy = await repository.underWay()
    if (busy !== null) throw new GitError(`${busy} in ${repository.git.directory}`)
    const head = await repository.head()
    if (head.branch === null) throw new GitError(`no branch is checked out in ${repository.git.directory}`)
    if (this.#isUnsure) await this.#dropCommitted(head)
    const batch = this.#waiting.filter(({ isDone }) => isDone).slice(0, MOST_AT_ONCE)
    if (batch.length === 0) return
    this.#isUnsure = true
    const records = await asKept(
      repository,
      head.commit,
      batch.map(({ record }) => record),
    )
    const commits = records.map((record) => commitOf(record, messageOf(record), committer))
    const ids = await addCommits(repository, head.branch, head.commit, commits)
    // First the index: cut short here, it would have what was committed as staged the other way round.
    await this.#followInIndex(head.commit, records)
    this.#drop(batch)
    this.#isUnsure = false
    this.#head = { ...head, commit: ids.at(-1) ?? head.commit }
    this.#recovered()
    onCommitted(batch.map(({ record }, index) => ({ id: ids[index] ?? '', record })))
    this.#sincePacked += batch.length
    if (this.#sincePacked >= PACK_EVERY) this.#pack()
  }

  /** What was committed before a crash is known by the id in its message. */
  async #dropCommitted({ commit }: Head): Promise<void> {
    if (commit !== null && this.#waiting.length > 0) {
      const { repository } = this.#options
      const format = `--format=%(trailers:key=${TRAILERS.change},valueonly)`
      const depth = String(this.#waiting.length + 1_000)
      const known = new Set((await repository.git.read(['log', '-n', depth, format, commit])).split('\n'))
      const committed = this.#waiting.filter(({ record }) => known.has(record.id))
      if (committed.length > 0)
        await this.#followInIndex(
          null,
          committed.map(({ record }) => record),
        )
      this.#drop(committed)
    }
    this.#isUnsure = false
  }

  #drop(committed: readonly Waiting[]): void {
    this.#options.journal.remove(committed.map(({ number }) => number))
    this.#waiting = this.#waiting.filter((one) => !committed.includes(one))
  }

  #followInIndex(parent: string | null, batch: readonly ChangeRecord[]): Promise<void> {
    const { repository } = this.#options
    const files = new Map<string, { path: string; before: string | null; after: string | null }>()
    for (const { path, before, text } of batch.flatMap((record) => record.files)) {
      const after = text === null ? null : repository.blobId(text)
      const first = files.get(path)
      files.set(path, { path, before: first === undefined ? before : first.before, after })
    }
    return followInIndex(
      repository,
      parent,
      [...files.values()].map(({ after, ...file }) => ({
        ...file,
        after: after === null ? null : { mode: '100644', id: after },
      })),
    )
  }

  #follow({ files }: ChangeRecord): void {
    for (const { path, text } of files) {
      if (text === null) this.#files.delete(path)
      else this.#files.set(path, this.#options.repository.blobId(text))
    }
  }

  #pack(): void {
    this.#sincePacked = 0
    const { git } = this.#options.repository
    // Its failure is the repository's growth, and nothing else.
    git
      .read(['-c', 'gc.auto=2000', '-c', 'gc.autoDetach=false', 'gc', '--auto', '--quiet'], {
        timeout: 600_000,
      })
      .catch(() => {})
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => {})
    return turn
  }
}

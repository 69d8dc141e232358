/** Notices what somebody edits or commits in the policy directory by hand, and says so, or applies it. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Recorder } from '../../history/recorder.ts'
import type { Edited, Repository } from '../../history/repository.ts'
import type { Diagnostic } from '../../policy/diagnostic.ts'
import { DirectoryError } from '../../policy/files.ts'
import { PolicyError } from '../../policy/policy-error.ts'
import type { Controller } from '../controller.ts'

export interface ByHand {
  /** What is not committed. */
  readonly files: readonly Edited[]
  /** Whether what is there is in force; `unsound`: it cannot be. */
  readonly state: 'in-force' | 'not-in-force' | 'unsound'
  readonly reason: string | null
  readonly diagnostics: readonly Diagnostic[]
}

export interface WorkTreeWatchOptions {
  readonly repository: Repository
  readonly recorder: Pick<Recorder, 'look' | 'status'>
  readonly controller: Pick<Controller, 'differs' | 'applyUnlessHeld'>
  /** Whether what is sound comes into force by itself. */
  readonly applies: boolean
  /** It is another than it was. */
  readonly onChanged: (found: ByHand) => void
  /** It cannot be looked; told once until it can. */
  readonly onFailed: (error: Error) => void
}

/** Milliseconds between looks. */
const INTERVAL = 5_000

const NOTHING: ByHand = { files: [], state: 'in-force', reason: null, diagnostics: [] }

export class WorkTreeWatch {
  readonly #options: WorkTreeWatchOptions
  #found = NOTHING
  #seen = ''
  #failure = ''
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: WorkTreeWatchOptions) {
    this.#options = options
  }

  get found(): ByHand {
    return this.#found
  }

  start(): void {
    if (this.#stopped) return
    this.#timer = setTimeout(() => {
      void this.look().then(() => this.start())
    }, INTERVAL)
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  async look(): Promise<void> {
    const { repository, recorder, onFailed } = this.#options
    try {
      const files = await repository.edited()
      await recorder.look()
      // What waits to be committed is nobody's but ours.
      if (recorder.status.waiting > 0) return
      const seen = JSON.stringify([recorder.status.head, await this.#stamps(files)])
      if (seen !== this.#seen) {
        const found = await this.#judge(files)
        this.#seen = seen
        this.#tell(found)
      }
      this.#failure = ''
    } catch (error) {
      const { message } = error as Error
      if (message !== this.#failure) onFailed(error as Error)
      this.#failure = message
    }
  }

  async #judge(files: readonly Edited[]): Promise<ByHand> {
    const { controller, applies } = this.#options
    try {
      if (!(await controller.differs())) return { ...NOTHING, files }
      if (!applies) {
        const reason = 'what is in the directory is not in force: apply it, or revert it'
        return { files, state: 'not-in-force', reason, diagnostics: [] }
      }
      await controller.applyUnlessHeld()
      return { ...NOTHING, files }
    } catch (error) {
      const { message } = error as Error
      const isWrong = error instanceof PolicyError || error instanceof DirectoryError
      const diagnostics = error instanceof PolicyError ? error.diagnostics : []
      return { files, state: isWrong ? 'unsound' : 'not-in-force', reason: message, diagnostics }
    }
  }

  #tell(found: ByHand): void {
    const before = JSON.stringify(this.#found)
    this.#found = found
    if (JSON.stringify(found) !== before) this.#options.onChanged(found)
  }

  /** What changes whenever a file does. */
  #stamps(files: readonly Edited[]): Promise<string[]> {
    const { directory } = this.#options.repository.git
    return Promise.all(
      files.map(async ({ path, what }) => {
        const info = await stat(join(directory, path), { bigint: true }).catch(() => null)
        return `${what} ${path} ${info?.ino} ${info?.size} ${info?.mtimeNs} ${info?.ctimeNs}`
      }),
    )
  }
}

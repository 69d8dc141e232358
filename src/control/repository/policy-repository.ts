/** The policy directory as a git work tree, while the service runs: what watches it, pulls it, and says how it is. */

import { type Caller, SERVICE } from '../../caller.ts'
import type { History } from '../../history/history.ts'
import { NoHistoryError } from '../../history/history-error.ts'
import type { Journal } from '../../history/journal.ts'
import type { OpenedHistory } from '../../history/open-history.ts'
import type { PoliciesConfig } from '../../history/policies-config.ts'
import type { Controller } from '../controller.ts'
import type { News } from '../news.ts'
import { Sync } from './sync.ts'
import { WorkTreeWatch } from './work-tree-watch.ts'

export interface PolicyRepositoryOptions {
  readonly opened: OpenedHistory
  readonly config: PoliciesConfig
  readonly controller: Controller
  readonly journal: Journal
  readonly gateway: string
  readonly webhookSecret: string | null
  readonly news: News
}

/** Milliseconds that a stop waits for commits. */
const PATIENCE = 10_000
/** Milliseconds from a change here until it is pushed: what comes together goes together. */
const PUSH_DELAY = 500

const IN_FORCE = { state: 'in-force', reason: null, files: [], diagnostics: [] } as const
const NONE = { branch: null, revision: null, waiting: 0, failure: null, edited: IN_FORCE, remote: null }

export class PolicyRepository {
  readonly #options: PolicyRepositoryOptions
  readonly #sync: Sync | null = null
  readonly #watch: WorkTreeWatch | null = null
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: PolicyRepositoryOptions) {
    this.#options = options
    const { opened, config, controller, journal, gateway, news } = options
    if (opened.history === null) return
    const { history, remote } = opened
    this.#watch = new WorkTreeWatch({
      repository: history.repository,
      recorder: history.recorder,
      controller,
      applies: config.byHand === 'apply',
      onChanged: (found) => news.editedByHand(found),
      onFailed: (error) => news.historyFailed(error),
    })
    if (remote === null) return
    this.#sync = new Sync({
      history,
      journal,
      remote,
      controller,
      gateway,
      now: Date.now,
      onPulled: (pulled) => news.pulled(pulled),
      onPushed: (revision) => news.pushed(revision),
      onState: (status) => news.syncState(status),
    })
  }

  /** @throws NoHistoryError */
  get history(): History {
    const { opened } = this.#options
    if (opened.history === null) throw new NoHistoryError(`there is no history: ${opened.reason}`)
    return opened.history
  }

  get webhookSecret(): string | null {
    return this.#options.webhookSecret
  }

  /** @throws NoHistoryError when nothing is configured to pull from */
  get sync(): Sync {
    if (this.#sync === null)
      throw new NoHistoryError('policies.remote is not set: there is nothing to pull from')
    return this.#sync
  }

  start(): void {
    if (this.#unusable !== null) this.#options.news.historyUnusable(this.#unusable)
    this.#watch?.start()
    this.#pullIn(0)
  }

  /** Something was committed here. */
  committed(): void {
    if (this.#sync?.remote.config.push === true) this.#pullIn(PUSH_DELAY)
  }

  /** Pulls soon, without anybody who waits for it. */
  pullSoon(): void {
    this.#pullIn(0)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    this.#watch?.stop()
    const { opened } = this.#options
    if (opened.history !== null) await opened.history.recorder.stop(PATIENCE)
  }

  /** For metrics: numbers and fixed words alone. */
  get measured() {
    const { opened } = this.#options
    const { waiting, failure } = opened.history?.recorder.status ?? { waiting: 0, failure: this.#unusable }
    const sync = this.#sync
    return {
      waiting,
      failed: failure !== null,
      edited: this.#watch?.found.state ?? 'in-force',
      remote:
        sync === null
          ? null
          : {
              branch: sync.remote.config.branch,
              state: sync.status.state,
              ahead: sync.status.ahead,
              inStepAt: sync.inStepAt,
            },
    }
  }

  /** For the status: everything about it in one object. */
  body() {
    const { opened, config } = this.#options
    if (opened.history === null) return { ...NONE, reason: opened.reason, failure: this.#unusable }
    const { waiting, failure, head } = opened.history.recorder.status
    const found = this.#watch?.found
    return {
      reason: null,
      branch: head.branch?.replace('refs/heads/', '') ?? null,
      revision: head.commit,
      waiting,
      failure: failure?.message ?? null,
      edited: {
        state: found?.state ?? 'in-force',
        reason: found?.reason ?? null,
        files: (found?.files ?? []).slice(0, 100).map(({ path, what }) => ({ path, change: what })),
        diagnostics: found?.diagnostics ?? [],
      },
      remote: this.#sync === null ? null : remoteBody(this.#sync, config),
    }
  }

  /** Why the repository that is there is not used. */
  get #unusable(): string | null {
    const { opened } = this.#options
    return opened.history === null && opened.isUnusable ? opened.reason : null
  }

  #pullIn(milliseconds: number): void {
    const sync = this.#sync
    if (sync === null || this.#stopped) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      const by: Caller = SERVICE
      void sync
        .pull(by)
        .catch(() => {
          // The state says it, and was told.
        })
        .then(() => this.#pullIn(sync.remote.config.poll))
    }, milliseconds)
  }
}

export function remoteBody({ status }: Sync, { remote }: Pick<PoliciesConfig, 'remote'>) {
  const { state, looked, revision, ahead, reason, diagnostics, kept } = status
  return {
    url: remote?.url ?? '',
    branch: remote?.branch ?? '',
    state,
    looked: looked === null ? null : new Date(looked).toISOString(),
    revision,
    ahead,
    reason,
    diagnostics,
    kept,
  }
}

/** The history of the policy directory, put together: nothing where it has none, and why. */

import type { ProcessRunner } from '../kernel/process.ts'
import type { ChangeRecord, Signature } from './change-record.ts'
import { Git } from './git.ts'
import { History } from './history.ts'
import { GitError } from './history-error.ts'
import type { Journal } from './journal.ts'
import type { PoliciesConfig } from './policies-config.ts'
import { reconcile } from './reconcile.ts'
import { Recorder } from './recorder.ts'
import { Remote } from './remote.ts'
import { Repository } from './repository.ts'
import { removeStaleLocks } from './stale-locks.ts'

export interface OpenHistoryOptions {
  readonly config: PoliciesConfig
  readonly gateway: string
  readonly run: ProcessRunner
  readonly journal: Journal
  readonly now: () => number
  readonly onCommitted: (commits: readonly { readonly id: string; readonly record: ChangeRecord }[]) => void
  readonly onFailed: (error: Error) => void
}

export type OpenedHistory =
  | { readonly history: History; readonly remote: Remote | null }
  /** Why there is none; `isUnusable`: there is a repository, and somebody will think that changes are committed to it. */
  | { readonly history: null; readonly reason: string; readonly isUnusable: boolean }

/**
 * Opens the history, and puts right what a crash has left, before anything is applied.
 * @throws GitError when there must be one and it cannot be opened; Error when files cannot be written
 */
export async function openHistory(options: OpenHistoryOptions): Promise<OpenedHistory> {
  const { config, gateway, run, journal, now, onCommitted, onFailed } = options
  if (config.history === 'off') return { history: null, reason: 'policies.history is off', isUnusable: false }
  const git = new Git({ run, directory: config.directory })
  let repository: Repository | null
  try {
    repository = await Repository.open(git)
    if (repository === null && config.history === 'init') {
      const branch = config.remote?.branch ?? 'main'
      // Of the group: root, who may commit by hand, must not leave folders behind in which the service cannot write.
      await git.read(['init', '--quiet', '--shared=group', `--initial-branch=${branch}`, '.'])
      repository = await Repository.open(git)
    }
  } catch (error) {
    if (config.remote !== null || config.history === 'init' || !(error instanceof GitError)) throw error
    return { history: null, reason: error.message, isUnusable: true }
  }
  if (repository === null) {
    const reason = `${config.directory} is no git work tree`
    if (config.remote !== null)
      throw new GitError(`${reason}: clone the remote there, or set policies.history: init`)
    return { history: null, reason, isUnusable: false }
  }
  const committer: Signature = {
    name: 'egress25',
    email: `egress25@${gateway.replace(/[^A-Za-z0-9.-]+/g, '-')}`,
  }
  const recorder = new Recorder({ repository, journal, committer, onCommitted, onFailed })
  const history = new History({ repository, recorder, gateway, now })
  await removeStaleLocks(config.directory, repository.folder)
  const left = await reconcile(repository, journal)
  await recorder.start(left)
  if (config.history === 'init' && config.remote === null) await firstCommit(history, committer, now())
  return { history, remote: config.remote === null ? null : new Remote(git, config.remote) }
}

/** What was there before there was a history is its beginning. */
async function firstCommit({ repository }: History, committer: Signature, now: number): Promise<void> {
  if ((await repository.head()).commit !== null) return
  const who = { GIT_AUTHOR_NAME: committer.name, GIT_AUTHOR_EMAIL: committer.email }
  const env = { ...who, GIT_COMMITTER_NAME: committer.name, GIT_COMMITTER_EMAIL: committer.email }
  const date = `${Math.floor(now / 1_000)} +0000`
  await repository.git.read(['add', '--all', '.'])
  await repository.git.read(['commit', '--quiet', '--allow-empty', '-m', 'The policies as they were found'], {
    env: { ...env, GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date },
  })
}

/** A policy directory in git with all that changes it, but the kernel: that agrees to everything. */
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Caller } from '../../src/caller.ts'
import { digestOf } from '../../src/compile/nft/digest.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { buildPolicies } from '../../src/config/policies.ts'
import { completeDocument } from '../../src/control/changes/document-change.ts'
import { Controller, type InForce } from '../../src/control/controller.ts'
import { Sync } from '../../src/control/repository/sync.ts'
import type { History } from '../../src/history/history.ts'
import { openHistory } from '../../src/history/open-history.ts'
import type { PoliciesConfig } from '../../src/history/policies-config.ts'
import type { Applied, Enforcer } from '../../src/kernel/enforcer.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { openDatabase } from '../../src/store/database.ts'
import { HistoryJournal } from '../../src/store/history-journal.ts'
import { directory, run } from './support.ts'

export const ALICE: Caller = { name: 'alice@example.net', role: 'admin', requestId: 'req-1' }

export const POLICIES = {
  'policies/residential.yaml': `# The pools.
kind: policy
name: residential
networks: [100.64.0.0/10]   # all of them
mode: enforce
`,
}

export interface Desk {
  readonly directory: string
  readonly controller: Controller
  readonly history: History
  readonly journal: HistoryJournal
  readonly sync: Sync | null
  put(
    kind: 'exemption' | 'policy' | 'list' | 'relay',
    name: string,
    body: object,
    reason?: string,
  ): Promise<unknown>
  close(): Promise<void>
}

export async function git(where: string, ...args: string[]): Promise<string> {
  const { code, out, err } = await run('git', ['-C', where, ...args], {
    env: {
      PATH: process.env['PATH'],
      HOME: '/nonexistent',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_AUTHOR_NAME: 'Bob',
      GIT_AUTHOR_EMAIL: 'bob@example.net',
      GIT_COMMITTER_NAME: 'Bob',
      GIT_COMMITTER_EMAIL: 'bob@example.net',
    },
  })
  if (code !== 0) throw new Error(`git ${args.join(' ')}: ${err}`)
  return out.trim()
}

/** A directory of policies that is committed. */
export async function workTree(t: Test, files: Readonly<Record<string, string>> = POLICIES): Promise<string> {
  const root = await directory(t, files)
  await git(root, 'init', '--quiet', '--initial-branch=main', '.')
  await git(root, 'add', '.')
  await git(root, 'commit', '--quiet', '-m', 'Begin')
  return root
}

/** Opens a directory as a service does at its start. */
export async function openDesk(
  t: Test,
  root: string,
  options: {
    state?: string
    remote?: Partial<Parameters<typeof buildPolicies>[0]>
    run?: ProcessRunner
    onApplied?: (inForce: InForce) => void
    onMade?: ConstructorParameters<typeof Controller>[0]['onMade']
    /** In place of the kernel's consent. @throws what the kernel says */
    onApply?: (ruleset: Ruleset) => void
  } = {},
): Promise<Desk> {
  const state = options.state ?? (await directory(t))
  const database = openDatabase(join(state, 'egress25.db'))
  const journal = new HistoryJournal(database)
  const config: PoliciesConfig = buildPolicies({ directory: root, ...options.remote })
  const opened = await openHistory({
    config,
    gateway: 'gw-test',
    run: options.run ?? runProcess,
    journal,
    now: Date.now,
    onCommitted: () => {},
    onFailed: () => {},
  })
  if (opened.history === null) throw new Error(opened.reason)
  const { history, remote } = opened
  const controller = new Controller({
    directory: root,
    compile: DEFAULT_COMPILE_OPTIONS,
    enforcer: agreeing(options.onApply),
    trial: { stateDirectory: state },
    findUserIds: async () => new Map(),
    now: Date.now,
    keeper: history,
    onApplied: options.onApplied ?? (() => {}),
    onMade: options.onMade ?? (() => {}),
  })
  await controller.applyUnlessHeld()
  const sync =
    remote === null
      ? null
      : new Sync({
          history,
          journal,
          remote,
          controller,
          gateway: 'gw-test',
          now: Date.now,
          onPulled: () => {},
          onPushed: () => {},
          onState: () => {},
        })
  return {
    directory: root,
    controller,
    history,
    journal,
    sync,
    put: (kind, name, body, reason) =>
      controller.put(completeDocument(kind, name, body), {
        by: ALICE,
        reason: reason ?? null,
        dryRun: false,
        mayGoAhead() {},
      }),
    async close() {
      await history.recorder.stop(30_000)
      database.close()
    },
  }
}

function agreeing(onApply: (ruleset: Ruleset) => void = () => {}): Enforcer {
  const apply = async (ruleset: Ruleset): Promise<Applied> => {
    onApply(ruleset)
    return {
      how: 'delta',
      digest: digestOf(ruleset),
      elements: { added: 0, removed: 0 },
      chains: [],
      bootFileError: null,
    } as unknown as Applied
  }
  return { apply, holds: async () => false, keepForBoot: async () => null } as unknown as Enforcer
}

/** Sees to it that a guard watches over a change: systemd's, or else one that is started here. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { programEnvironment } from '../../kernel/process.ts'
import { ROOT } from '../../root.ts'
import type { ConfirmationFiles, Pending } from './confirmation.ts'

/** Nobody would take the change back if this program died, so it was not made. */
export class UnguardedError extends Error {}

const SCRIPT = join(ROOT, 'scripts/rollback-guard')

/** The one that egress25-rollback.path looks at. */
const WATCHED_DIRECTORY = '/var/lib/egress25'
const UNIT = 'egress25-rollback.path'

/** Milliseconds for a guard to say that it is there. */
const PATIENCE = 2_000
const STEP = 20

/** Resolves when a guard watches over the change. @throws UnguardedError */
export type FindGuard = (files: ConfirmationFiles, pending: Pending) => Promise<void>

export const findGuard: FindGuard = async (files, pending) => {
  const { directory } = files
  const isService = process.env['NOTIFY_SOCKET'] !== undefined
  if (isService || (directory === WATCHED_DIRECTORY && existsSync('/run/systemd/system'))) {
    if (await answers(files, pending)) return
    // What a service of systemd starts ends with it, and is no guard.
    if (isService) {
      throw new UnguardedError(
        `no guard watches ${directory}, so nothing was changed; is ${UNIT} running? (systemctl enable --now ${UNIT})`,
      )
    }
  }
  // In a session of its own, it outlives this program and its terminal.
  const guard = spawn(SCRIPT, [directory], { detached: true, stdio: 'ignore', env: programEnvironment() })
  guard.on('error', () => {})
  guard.unref()
  if (!(await answers(files, pending))) {
    throw new UnguardedError(`no guard answers, so nothing was changed: cannot run ${SCRIPT} ${directory}`)
  }
}

/** Whether a guard says in time that it watches over the change. */
export async function answers(
  files: ConfirmationFiles,
  pending: Pending,
  patience = PATIENCE,
): Promise<boolean> {
  for (const start = performance.now(); performance.now() - start < patience; await wait(STEP)) {
    if (await files.isGuarded(pending)) return true
  }
  return false
}

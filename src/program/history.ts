/** Subcommands about changes: who made them, the way back, and what comes from elsewhere. */
import type { HistoryOptions, RevertOptions } from '../commands/history.ts'
import { type Given, type Shell, subcommand } from './shell.ts'

export function addHistoryCommands({ program, common, finish }: Shell): void {
  const history = subcommand(program, 'history', 'who changed what, when and why, the latest first')
    .option('--path <path>', 'only what changed this file or folder of the policy directory')
    .option('--limit <number>', 'how many at most', '20')
    .action(async (options: Given<HistoryOptions>) => {
      const { listHistory } = await import('../commands/history.ts')
      finish(await listHistory({ ...options, ...common(options) }))
    })
  subcommand(history, 'show [revision]', 'one change, with its diff; default: HEAD, the latest').action(
    async (revision: string | undefined, options: { json?: boolean }) => {
      const { showRevision } = await import('../commands/history.ts')
      finish(await showRevision(revision ?? 'HEAD', common(options)))
    },
  )
  subcommand(history, 'revert <revision>', 'take a change back, by a new one that is checked like any other')
    .option('--reason <text>', 'why')
    .option('--override-incident', 'although a host that is exempt again has an open incident')
    .action(async (revision: string, options: Given<RevertOptions>) => {
      const { revertRevision } = await import('../commands/history.ts')
      finish(await revertRevision(revision, { ...options, ...common(options) }))
    })

  subcommand(program, 'pull', 'fetch the policies from their remote now, and apply what is new').action(
    async (options: { json?: boolean }) => {
      const { pull } = await import('../commands/history.ts')
      finish(await pull(common(options)))
    },
  )
}

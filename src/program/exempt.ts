/** Subcommands about exemptions. */
import type { AddOptions } from '../commands/exempt.ts'
import { type Shell, subcommand } from './shell.ts'

type Given<Options> = Omit<Options, 'json' | 'config'> & { readonly json?: boolean }

export function addExemptCommands({ program, common, finish }: Shell): void {
  const exempt = program.command('exempt').description('hosts that may send although governed')

  subcommand(exempt, 'add <source...>', 'exempt a machine or network')
    .option('--name <name>', 'of the exemption; default: by the source')
    .option('--to <prefix>', 'where it may send to; default: anywhere', gather)
    .option('--for <duration>', 'for so long from now: 12h, 30d; default: forever')
    .option('--until <time>', 'until then (RFC 3339)')
    .option('--rate <rate>', 'new connections per source: 30/minute; default: no limit')
    .option('--reason <text>', 'why')
    .option('--owner <text>', 'who answers for it')
    .option('--ticket <text>', 'where it was asked for')
    .action(async (sources: string[], options: Given<AddOptions>) => {
      const { addExemption } = await import('../commands/exempt.ts')
      finish(await addExemption(sources, { ...options, ...common(options) }))
    })

  subcommand(exempt, 'list', 'all exemptions').action(async (options: { json?: boolean }) => {
    const { listExemptions } = await import('../commands/exempt.ts')
    finish(await listExemptions(common(options)))
  })

  subcommand(exempt, 'show <name>', 'one exemption').action(
    async (name: string, options: { json?: boolean }) => {
      const { showExemption } = await import('../commands/exempt.ts')
      finish(await showExemption(name, common(options)))
    },
  )

  subcommand(exempt, 'revoke <name>', 'end an exemption at once').action(
    async (name: string, options: { json?: boolean }) => {
      const { revokeExemption } = await import('../commands/exempt.ts')
      finish(await revokeExemption(name, common(options)))
    },
  )
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value]
}

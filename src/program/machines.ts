/** Subcommands about machines: incidents, attempts, sources, watch. */
import type { AttemptOptions, SourceOptions } from '../commands/attempts.ts'
import type { ListOptions } from '../commands/incidents.ts'
import { type Given, type Shell, subcommand } from './shell.ts'

export function addMachineCommands({ program, common, finish }: Shell): void {
  const incidents = subcommand(program, 'incidents', 'which machines misbehave')
    .option('--state <state>', 'open, resolved or all', 'open')
    .option('--kind <kind>', 'spam-bot, misconfigured-client, exempt-host-anomaly, scanner or flood')
    .option('--limit <number>', 'how many at most', '1000')
    .action(async (options: Given<ListOptions>) => {
      const { listIncidents } = await import('../commands/incidents.ts')
      finish(await listIncidents({ ...options, ...common(options) }))
    })
  subcommand(incidents, 'show <id>', 'one incident').action(
    async (id: string, options: { json?: boolean }) => {
      const { showIncident } = await import('../commands/incidents.ts')
      finish(await showIncident(id, common(options)))
    },
  )
  for (const [decision, description] of [
    ['acknowledge', 'say that somebody looks after it'],
    ['resolve', 'say that it is over'],
  ] as const) {
    subcommand(incidents, `${decision} <id>`, description).action(
      async (id: string, options: { json?: boolean }) => {
        const { decideIncident } = await import('../commands/incidents.ts')
        finish(await decideIncident(id, decision, common(options)))
      },
    )
  }

  subcommand(program, 'attempts', 'attempts one by one, the latest first')
    .option('--source <prefix>', 'of one machine or network')
    .option('--policy <name>', 'of one policy')
    .option('--verdict <verdict>', 'block, redirect, observe or allow')
    .option('--limit <number>', 'how many at most', '50')
    .action(async (options: Given<AttemptOptions>) => {
      const { listAttempts } = await import('../commands/attempts.ts')
      finish(await listAttempts({ ...options, ...common(options) }))
    })

  subcommand(program, 'sources [address]', 'the machines with the most attempts, or what one machine did')
    .option('--policy <name>', 'of one policy')
    .option('--limit <number>', 'how many at most', '50')
    .action(async (address: string | undefined, options: Given<SourceOptions>) => {
      const { listSources, showSource } = await import('../commands/attempts.ts')
      finish(
        address === undefined
          ? await listSources({ ...options, ...common(options) })
          : await showSource(address, common(options)),
      )
    })

  subcommand(
    program,
    'watch',
    'what happens now: a view that renews itself, or in a pipe a line for each event',
  ).action(async (options: { json?: boolean }) => {
    const { watch } = await import('../commands/watch.ts')
    finish(await watch(common(options)))
  })
}

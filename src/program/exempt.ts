/** Subcommands about exemptions. */
import type { AddOptions, ExtendOptions } from '../commands/exempt.ts'
import type { DecideOptions } from '../commands/exemption-requests.ts'
import { type Given, type Shell, subcommand } from './shell.ts'

export function addExemptCommands({ program, common, finish }: Shell): void {
  const exempt = program.command('exempt').description('hosts that may send although governed')

  const described = (usage: string, description: string) =>
    subcommand(exempt, usage, description)
      .option('--name <name>', 'of the exemption; default: by the source')
      .option('--to <prefix>', 'where it may send to; default: anywhere', gather)
      .option('--for <duration>', 'for so long: 12h, 30d; default: forever')
      .option('--until <time>', 'until then (RFC 3339)')
      .option('--rate <rate>', 'new connections per source: 30/minute; default: no limit')
      .option('--reason <text>', 'why')
      .option('--owner <text>', 'who answers for it')
      .option('--ticket <text>', 'where it was asked for')
  described('add <source...>', 'exempt a machine or network')
    .option('--override-incident', 'although a host has an open incident')
    .action(async (sources: string[], options: Given<AddOptions>) => {
      const { addExemption } = await import('../commands/exempt.ts')
      finish(await addExemption(sources, { ...options, ...common(options) }))
    })
  subcommand(exempt, 'extend <name>', 'give an exemption another end')
    .option('--for <duration>', 'from now on: 12h, 30d')
    .option('--until <time>', 'until then (RFC 3339)')
    .option('--reason <text>', 'why')
    .option('--override-incident', 'although a host has an open incident')
    .action(async (name: string, options: Given<ExtendOptions>) => {
      const { extendExemption } = await import('../commands/exempt.ts')
      finish(await extendExemption(name, { ...options, ...common(options) }))
    })
  described('request <source...>', 'ask for an exemption, which somebody else decides on').action(
    async (sources: string[], options: Given<AddOptions>) => {
      const { requestExemption } = await import('../commands/exemption-requests.ts')
      finish(await requestExemption(sources, { ...options, ...common(options) }))
    },
  )

  subcommand(exempt, 'requests', 'exemptions that were asked for')
    .option(
      '--state <state>',
      'requested, refused, withdrawn, revoked, in-force, expiring or expired; default: all',
    )
    .action(async (options: { json?: boolean; state?: string }) => {
      const { listRequests } = await import('../commands/exemption-requests.ts')
      finish(await listRequests({ ...options, ...common(options) }))
    })
  for (const decision of ['approve', 'refuse', 'withdraw'] as const) {
    const one = subcommand(exempt, `${decision} <id>`, `${decision} what was asked for`).option(
      '--reason <text>',
      'why',
    )
    if (decision === 'approve') one.option('--override-incident', 'although a host has an open incident')
    one.action(async (id: string, options: Given<DecideOptions>) => {
      const { decideRequest } = await import('../commands/exemption-requests.ts')
      finish(await decideRequest(id, decision, { ...options, ...common(options) }))
    })
  }

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

  subcommand(exempt, 'revoke <name>', 'end an exemption at once')
    .option('--reason <text>', 'why')
    .action(async (name: string, options: { json?: boolean; reason?: string }) => {
      const { revokeExemption } = await import('../commands/exempt.ts')
      finish(await revokeExemption(name, { ...options, ...common(options) }))
    })
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value]
}

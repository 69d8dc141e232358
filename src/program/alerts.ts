/** Subcommands about alerts: channels, messages, silences. */
import { Option } from 'commander'
import type { ListOptions } from '../commands/alerts.ts'
import type { SilenceOptions } from '../commands/silences.ts'
import { MESSAGE_STATES } from '../store/alert-messages.ts'
import { type Given, type Shell, subcommand } from './shell.ts'

type Json = { readonly json?: boolean }

export function addAlertCommands({ program, common, finish }: Shell): void {
  const alerts = program.command('alerts').description('alerts: channels, messages, silences')

  subcommand(alerts, 'channels', 'how the channels fare').action(async (options: Json) => {
    const { listChannels } = await import('../commands/alerts.ts')
    finish(await listChannels(common(options)))
  })
  subcommand(alerts, 'test <channel>', 'send a test to a channel, and say whether it arrived').action(
    async (channel: string, options: Json) => {
      const { testChannel } = await import('../commands/alerts.ts')
      finish(await testChannel(channel, common(options)))
    },
  )
  subcommand(alerts, 'list', 'messages, the latest first')
    .option('--channel <name>', 'only those to this channel')
    .addOption(new Option('--state <state>', 'only those; dead: given up').choices([...MESSAGE_STATES]))
    .option('--limit <number>', 'how many at most', '50')
    .action(async (options: Given<ListOptions>) => {
      const { listAlerts } = await import('../commands/alerts.ts')
      finish(await listAlerts({ ...options, ...common(options) }))
    })
  subcommand(alerts, 'show <id>', 'one message with all that it says').action(
    async (id: string, options: Json) => {
      const { showAlert } = await import('../commands/alerts.ts')
      finish(await showAlert(id, common(options)))
    },
  )
  subcommand(alerts, 'resend [id]', 'send a message once more, or all that were given up')
    .option('--dead <channel>', 'all to this channel that were given up')
    .action(async (id: string | undefined, options: Json & { readonly dead?: string }, command) => {
      const { resendAlert, resendDead } = await import('../commands/alerts.ts')
      if ((id === undefined) === (options.dead === undefined))
        command.error('egress25: say either which message, or --dead CHANNEL')
      else if (id !== undefined) finish(await resendAlert(id, common(options)))
      else finish(await resendDead(options.dead ?? '', common(options)))
    })

  subcommand(alerts, 'silence', 'tell nothing for a while: of everything, or of what is said')
    .option('--for <duration>', 'for so long, as 2h')
    .option('--until <time>', 'or until then: RFC 3339')
    .option('--from <time>', 'from then on; default: now')
    .option('--policy <name...>', 'only of machines in these policies')
    .option('--network <prefix...>', 'only of machines in these networks')
    .option('--kind <kind...>', 'only of incidents of these kinds')
    .option('--channel <name...>', 'only to these channels')
    .option('--reason <text>', 'why')
    .action(async (options: Given<SilenceOptions>) => {
      const { addSilence } = await import('../commands/silences.ts')
      finish(await addSilence({ ...options, ...common(options) }))
    })
  subcommand(alerts, 'silences', 'silences, also those that are over').action(async (options: Json) => {
    const { listSilences } = await import('../commands/silences.ts')
    finish(await listSilences(common(options)))
  })
  subcommand(alerts, 'unsilence <id>', 'end a silence now').action(async (id: string, options: Json) => {
    const { endSilence } = await import('../commands/silences.ts')
    finish(await endSilence(id, common(options)))
  })
}

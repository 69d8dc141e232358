/** The `egress25` command. Each subcommand is loaded when it is called: `check` need not wait for the API. */
import { Command, CommanderError } from 'commander'
import { UnreachableError } from './client/client.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './commands/outcome.ts'
import { ConfigError } from './config-error.ts'
import { KernelError } from './kernel/kernel-error.ts'
import { DirectoryError } from './policy/files.ts'
import { addAlertCommands } from './program/alerts.ts'
import { addExemptCommands } from './program/exempt.ts'
import { addHistoryCommands } from './program/history.ts'
import { addMachineCommands } from './program/machines.ts'
import type { Shell } from './program/shell.ts'
import { VERSION } from './version.ts'

interface Options {
  readonly json?: boolean
}

const program = new Command('egress25')
  .description('An outbound port 25 egress firewall: YAML policies to nftables, infected machines named.')
  .option('-c, --config <file>', 'the gateway configuration (default: /etc/egress25/egress25.yaml)')
  .version(VERSION, '-V, --version', 'print the version')
  .exitOverride()
  .configureHelp({ showGlobalOptions: true })
  .configureOutput({ writeErr: (text) => process.stderr.write(text) })
  .addHelpText(
    'after',
    '\nExit status: 0 done, 1 no, 2 usage or configuration, 3 kernel, 4 service unreachable',
  )

let exit: Exit = EXIT.done

const config = (): string | null => program.opts<{ config?: string }>().config ?? null
const common = ({ json }: Options) => ({ json: json === true, config: config() })

function command(usage: string, description: string): Command {
  return program.command(usage).description(description).option('--json', 'print JSON')
}

const ITS_DIRECTORY = '\nWithout a directory: the one that the configuration names.'

command('check [dir]', 'check policy documents')
  .option('--excerpts', 'show the lines that are meant (default: on a terminal)')
  .option('--no-excerpts', 'one line for each diagnostic')
  .addHelpText('after', ITS_DIRECTORY)
  .action(async (dir: string | undefined, options: Options & { excerpts?: boolean }) => {
    const { check } = await import('./commands/check.ts')
    exit = await check(dir ?? null, {
      ...common(options),
      excerpts: options.excerpts ?? process.stdout.isTTY,
    })
  })

command('test [dir]', 'run the policy tests')
  .option('--junit <file>', 'write the results as JUnit XML, for CI')
  .addHelpText('after', ITS_DIRECTORY)
  .action(async (dir: string | undefined, options: Options & { junit?: string }) => {
    const { test } = await import('./commands/test.ts')
    exit = await test(dir ?? null, { ...options, ...common(options) })
  })

command('compile [dir]', 'print the nft script')
  .addHelpText('after', ITS_DIRECTORY)
  .action(async (dir: string | undefined, options: Options) => {
    const { compile } = await import('./commands/compile.ts')
    exit = await compile(dir ?? null, common(options))
  })

command('explain <words...>', 'say what becomes of a packet, and why')
  .usage('[options] [dir] <source> <destination>')
  .option('--port <number>', 'TCP destination port', '25')
  .option('--user <name>', 'a local user who sends it, on the gateway itself')
  .option('--leaves-by <interface>', 'where it leaves, on a gateway with outside_interfaces')
  .addHelpText(
    'after',
    '\nWithout a directory the running service is asked; where none runs, the files that it would read.',
  )
  .action(async (words: string[], options: Options & { port: string; user?: string; leavesBy?: string }) => {
    const { explain } = await import('./commands/explain.ts')
    exit = await explain(words, { ...options, ...common(options) })
  })

command('plan [dir]', 'say what an apply would change')
  .option('--from <dir>', 'start from this directory instead of what the service has in force')
  .option('--markdown', 'print Markdown, for the discussion of a change')
  .action(async (dir: string | undefined, options: Options & { from?: string; markdown?: boolean }) => {
    const { plan } = await import('./commands/plan.ts')
    const { from = null, markdown = false } = options
    exit = await plan(dir ?? null, { ...common(options), from, markdown })
  })

command(
  'import <file>',
  'turn nft or iptables rules, or a list of relays, into policy documents (-: standard input)',
)
  .option(
    '--format <name>',
    'nft (nft -j list ruleset), iptables (iptables-save) or relays; default: by its look',
  )
  .option('--output <dir>', 'write the documents into a new directory')
  .option('--as <kind>', 'what becomes of who may send to anywhere: relay or exemption; default: what fits')
  .option(
    '--local <prefixes>',
    "this machine's own addresses, where its rules differ from those for others",
    gather,
  )
  .option('--behind <interface=prefixes>', 'what lies behind an interface that rules name', gather)
  .action(async (file: string, options: Options & { local?: string[]; behind?: string[] }) => {
    const { importFile } = await import('./commands/import.ts')
    exit = await importFile(file, { ...options, json: options.json === true })
  })

function gather(value: string, before: string[] = []): string[] {
  return [...before, value]
}

command('apply [dir]', 'bring the policies into force')
  .option('--confirm <duration>', 'take them back after so long (5s to 1h), unless egress25 confirm follows')
  .action(async (dir: string | undefined, options: Options & { confirm?: string }) => {
    const { apply } = await import('./commands/apply.ts')
    exit = await apply(dir ?? null, { ...common(options), confirm: options.confirm ?? null })
  })

command('confirm', 'keep what apply --confirm brought into force').action(async (options: Options) => {
  const { confirm } = await import('./commands/confirm.ts')
  exit = await confirm(common(options))
})

command('rollback', 'take back at once what apply --confirm brought into force').action(
  async (options: Options) => {
    const { rollback } = await import('./commands/confirm.ts')
    exit = await rollback(common(options))
  },
)

command('status', 'say how the gateway is').action(async (options: Options) => {
  const { status } = await import('./commands/status.ts')
  exit = await status(common(options))
})

command('report', 'say who would be blocked if policies that observe enforced, and what they look like')
  .option('--exemptions <dir>', 'write exemptions for what looks like mail servers, to review and commit')
  .option('--from <time>', 'RFC 3339; default: 14 days ago')
  .option('--to <time>', 'RFC 3339; default: now')
  .action(async (options: Options & { exemptions?: string; from?: string; to?: string }) => {
    const { report } = await import('./commands/report.ts')
    const { exemptions = null, from = null, to = null } = options
    exit = await report({ ...common(options), exemptions, from, to })
  })

const shell: Shell = { program, common, finish: (status) => (exit = status) }
addMachineCommands(shell)
addExemptCommands(shell)
addHistoryCommands(shell)
addAlertCommands(shell)

const token = program.command('token').description('say who may use the API')

token
  .command('create <name>')
  .description('make a token, and print it')
  .requiredOption('--role <role>', 'viewer, operator, admin or requester')
  .option('--expires <duration>', 'how long it is good for', '90d')
  .option('--json', 'print JSON')
  .action(async (name: string, options: Options & { role: string; expires: string }) => {
    const { createToken } = await import('./commands/token.ts')
    exit = await createToken({ name, ...options }, common(options))
  })

token
  .command('list')
  .description('list all tokens')
  .option('--json', 'print JSON')
  .action(async (options: Options) => {
    const { listTokens } = await import('./commands/token.ts')
    exit = await listTokens(common(options))
  })

token
  .command('revoke <id>')
  .description('end a token at once')
  .option('--json', 'print JSON')
  .action(async (id: string, options: Options) => {
    const { revokeToken } = await import('./commands/token.ts')
    exit = await revokeToken(id, common(options))
  })

program
  .command('serve')
  .description('run the service')
  .action(async () => {
    const { serve } = await import('./serve.ts')
    exit = await serve(config())
  })

program
  .command('schema')
  .description('print the JSON Schema of policy documents, for editors')
  .option('--webhook', 'of what webhooks post, for receivers')
  .action(async ({ webhook }: { webhook?: true }) => {
    const { policyJsonSchema } = await import('./policy/json-schema.ts')
    const { webhookJsonSchema } = await import('./api/routes/webhook-body.ts')
    print(JSON.stringify(webhook ? webhookJsonSchema() : policyJsonSchema(), null, 2))
  })

program
  .command('completion <shell>')
  .description('print what makes a shell complete the command: bash or zsh')
  .action(async (name: string) => {
    const { completion } = await import('./commands/completion.ts')
    exit = completion(name, program)
  })

program
  .command('manual <page>')
  .description('print a manual page: egress25.1, egress25.yaml.5 or egress25-policies.5')
  .action(async (page: string) => {
    const { manual } = await import('./commands/manual.ts')
    exit = await manual(page, program)
  })

command('version', 'print the version').action((options: Options) => {
  if (options.json === true) printJson({ version: VERSION })
  else print(VERSION)
})

/** One clear line for whatever can be expected to go wrong. */
function exitFor(error: unknown): Exit {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage
  if (!(error instanceof Error)) throw error
  if (error instanceof ConfigError) complainOf(error.diagnostics)
  complain(`egress25: ${error.message}`)
  if (error instanceof KernelError) return EXIT.kernel
  if (error instanceof UnreachableError) return EXIT.unreachable
  if (error instanceof ConfigError || error instanceof DirectoryError) return EXIT.usage
  complain(error.stack ?? '')
  return EXIT.usage
}

// Whoever reads only the beginning, such as head(1), has seen enough; what the command does goes on to its end. What a full
// disk did not take is missing.
let isCutShort = false
process.stderr.on('error', () => {})
process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE' || isCutShort) return
  isCutShort = true
  complain(`egress25: cannot write to standard output: ${code}`)
  process.exitCode = EXIT.usage
})

try {
  await program.parseAsync()
} catch (error) {
  exit = exitFor(error)
}
process.exitCode = isCutShort ? EXIT.usage : exit

/** What subcommands are defined with: each file of this folder adds some of them to the program. */
import type { Command } from 'commander'
import type { Common } from '../commands/ask.ts'
import type { Exit } from '../commands/outcome.ts'

export interface Shell {
  readonly program: Command
  /** What all subcommands know: whether they print JSON, and the configuration. */
  common(options: { readonly json?: boolean }): Common
  /** The exit status of the whole command. */
  finish(exit: Exit): void
}

/** What commander hands over of a command's options: only what was given. */
export type Given<Options> = Omit<Options, 'json' | 'config'> & { readonly json?: boolean }

/** A subcommand that may print JSON. */
export function subcommand(parent: Command, usage: string, description: string): Command {
  return parent.command(usage).description(description).option('--json', 'print JSON')
}

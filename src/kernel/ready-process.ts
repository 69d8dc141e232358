/**
 * A program that is started again and again, kept ready: to fork a process with a million prefixes in it costs more than
 * what nft then does. So a shell is started ahead, waits for a line on its standard input, and becomes the program (by the
 * same process id) when there is something to do. Whatever it does before, such as taking a lock, it does only then; and it
 * is looked for only then, so that another version of it is used once it is installed.
 *
 * The shell ends by itself when this process does: it reads the end of its input, and never becomes anything.
 */
import type { ChildProcess } from 'node:child_process'
import { follow, goesAtOnce, hold, launch, type ProcessRunner, runProcess } from './process.ts'

/** Nothing of the words is ever read as shell: they are its parameters. It reads no byte beyond its line. */
const WAIT = ['sh', '-c', 'read -r go && exec "$@"', 'sh'] as const

/** Milliseconds after a run in which its caller answers whoever waits, before the next is made ready. */
const PAUSE = 20

/**
 * Runs programs as `runProcess` does, and keeps one that was run with an input ready for the next time. Another program, or
 * a second at the same time, is started by `run`. A kept program that is not there any more ends with status 127.
 */
export function keepReady(run: ProcessRunner = runProcess): ProcessRunner {
  let ready: { readonly command: string; readonly child: ChildProcess } | null = null
  const prepare = (argv: Parameters<ProcessRunner>[0]) => {
    if (ready !== null) return
    const child = launch([...WAIT, ...argv], {}, null)
    const mine = { command: argv.join('\0'), child }
    const forget = () => {
      if (ready === mine) ready = null
    }
    child.on('error', forget).on('exit', forget)
    hold(child, false)
    ready = mine
  }
  return async (argv, options) => {
    const { input } = options
    if (input === undefined || options.env !== undefined) return run(argv, options)
    const prepareLater = () => setTimeout(prepare, PAUSE, argv).unref()
    const here = ready
    if (here?.command !== argv.join('\0') || !goesAtOnce(input)) {
      return run(argv, options).finally(prepareLater)
    }
    ready = null
    hold(here.child, true)
    const begin = typeof input === 'string' ? `\n${input}` : Buffer.concat([Buffer.from('\n'), input])
    return follow(here.child, argv[0], { ...options, input: begin }).finally(prepareLater)
  }
}

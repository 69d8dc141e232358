/**
 * Programs that are run again and again, started by small shells instead of by this process. To fork a process copies the
 * tables of all its memory, waits until the new one has found its program, and has each page copied that is written next:
 * with a million prefixes in memory that holds up everything else for milliseconds, several times a second. A shell of a
 * megabyte forks in a fraction of that, and on another processor.
 *
 * A shell reads its standard input line by line: a token that no program knows, how many settings and how many words come,
 * the settings (`NAME=value`), and the words of the command. It runs that with nothing to read, and closes what was printed
 * with a line of the token on either output, and of the exit status on the first. None of it is ever read as shell.
 *
 * It ends by itself when this process does: then it reads the end of its input.
 */
import type { ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { constants } from 'node:os'
import {
  FAULTS,
  hold,
  launch,
  MAX_OUTPUT,
  ProcessError,
  type ProcessOptions,
  type ProcessResult,
  type ProcessRunner,
  runProcess,
} from './process.ts'

/** By exec in a subshell: always a program, never what the shell itself knows by that name. */
const LOOP = String.raw`
while read -r token settings words; do
  set --
  while [ $# -lt $((settings + words)) ]; do IFS= read -r line || exit; set -- "$@" "$line"; done
  (
    while [ "$settings" -gt 0 ]; do export "$1"; shift; settings=$((settings - 1)); done
    exec "$@"
  ) </dev/null
  status=$?
  printf '\n%s %s\n' "$token" "$status"
  printf '\n%s\n' "$token" >&2
done`

/** So many run at the same time; one more is started in the plain way. */
const MOST = 2
/** How it calls itself where it says that something is wrong. */
const NAME = 'egress25-shell'
/** Exit statuses of a shell: no such program, and 128 and a signal's number. Up to 129 they are git's own, too. */
const NOT_FOUND = 127
const LAST_OF_GIT = 129

/**
 * Runs programs as `runProcess` does, by shells that are started when they are first needed. What is given an input, or
 * whose process id somebody wants, is started in the plain way.
 */
export function runByShells(): ProcessRunner {
  let idle: Shell[] = []
  let busy = 0
  const take = (): Shell | null => {
    idle = idle.filter(({ isAlive }) => isAlive)
    return idle.pop() ?? (busy < MOST ? startShell() : null)
  }
  return async (argv, options) => {
    const lines = linesOf(argv, options)
    const shell = lines === null ? null : take()
    if (lines === null || shell === null) return runProcess(argv, options)
    busy++
    try {
      return await shell.run(lines, argv[0], options)
    } finally {
      busy--
      if (shell.isAlive) idle.push(shell)
    }
  }
}

/** What a shell is told; null: it cannot be told that. */
function linesOf(
  argv: Parameters<ProcessRunner>[0],
  { env = {}, input, onStart }: ProcessOptions,
): string | null {
  const settings = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const lines = [...settings, ...argv]
  if (input !== undefined || onStart !== undefined || lines.some((line) => /[\n\0]/.test(line))) return null
  return [`${settings.length} ${argv.length}`, ...lines, ''].join('\n')
}

/** null: none can be started. */
function startShell(): Shell | null {
  // A group of its own, so that it and what it runs can be ended together.
  const child = launch(['sh', '-c', LOOP, NAME], { ownGroup: true }, null)
  child.on('error', () => {})
  return child.pid === undefined ? null : new Shell(child, child.pid)
}

class Shell {
  readonly #child: ChildProcess
  readonly #pid: number
  #isAlive = true
  #onChunk: (stream: 'stdout' | 'stderr', chunk: Buffer) => void = () => {}
  #onEnd: () => void = () => {}

  constructor(child: ChildProcess, pid: number) {
    this.#child = child
    this.#pid = pid
    for (const stream of ['stdout', 'stderr'] as const)
      child[stream]?.on('data', (chunk: Buffer) => this.#onChunk(stream, chunk))
    child.on('exit', () => {
      this.#isAlive = false
    })
    child.on('close', () => this.#onEnd())
    // One that has ended is told apart by that, not by a broken pipe.
    child.stdin?.on('error', () => {})
    hold(child, false)
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  /** One command, by its name in errors. @throws ProcessError as `runProcess` does */
  async run(lines: string, command: string, options: ProcessOptions): Promise<ProcessResult> {
    const { timeout, encoding = 'utf8', maxOutput = MAX_OUTPUT } = options
    const token = randomUUID()
    const stdout = new ClosedOutput(token)
    const stderr = new ClosedOutput(token)
    let fault: ProcessError | null = null
    const kill = (error: ProcessError) => {
      fault ??= error
      this.#kill()
    }
    const timer = setTimeout(() => kill(FAULTS.timeout(command, timeout)), timeout)
    hold(this.#child, true)
    const isClosed = await new Promise<boolean>((resolve) => {
      this.#onEnd = () => resolve(false)
      this.#onChunk = (stream, chunk) => {
        const output = stream === 'stdout' ? stdout : stderr
        output.add(chunk)
        if (stdout.size + stderr.size > maxOutput) kill(FAULTS.output(command, maxOutput))
        else if (stdout.closing !== null && stderr.closing !== null) resolve(true)
      }
      this.#child.stdin?.write(`${token} ${lines}`)
    })
    clearTimeout(timer)
    hold(this.#child, false)
    if (fault !== null) throw fault
    if (!isClosed) throw new ProcessError('signal', `${command} was ended together with its shell`)
    const code = Number(stdout.closing)
    if (code === NOT_FOUND && stderr.text('latin1').startsWith(NAME)) throw FAULTS.missing(command)
    if (code > LAST_OF_GIT) throw FAULTS.signal(command, signalOf(code))
    return { code, stdout: stdout.text(encoding), stderr: stderr.text(encoding) }
  }

  #kill(): void {
    this.#isAlive = false
    try {
      process.kill(-this.#pid, 'SIGKILL')
    } catch {
      // It has ended already.
    }
  }
}

function signalOf(status: number): string {
  const name = Object.entries(constants.signals).find(([, number]) => number === status - 128)?.[0]
  return name ?? `signal ${status - 128}`
}

/** What a program prints, up to the line by which its shell closes that. */
class ClosedOutput {
  readonly #token: string
  #chunks: Buffer[] = []
  #size = 0
  #closing: string | null = null

  constructor(token: string) {
    this.#token = token
  }

  get size(): number {
    return this.#size
  }

  /** What the closing line says behind the token; null: it has not come. */
  get closing(): string | null {
    return this.#closing
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#size += chunk.length
    // The line is the last that comes: most chunks need not be looked at any closer.
    if (chunk.at(-1) !== 10) return
    const longest = this.#token.length + 8
    const end = this.#lastBytes(longest)
    const at = end.lastIndexOf(`\n${this.#token}`)
    if (at === -1) return
    this.#closing = end.toString('latin1', at + 1 + this.#token.length).trim()
    this.#size -= end.length - at
  }

  text(encoding: BufferEncoding): string {
    return Buffer.concat(this.#chunks).toString(encoding, 0, this.#size)
  }

  /** In one piece. */
  #lastBytes(count: number): Buffer {
    while (this.#chunks.length > 1 && (this.#chunks.at(-1)?.length ?? 0) < count) {
      const last = this.#chunks.splice(-2)
      this.#chunks.push(Buffer.concat(last))
    }
    return this.#chunks.at(-1)?.subarray(-count) ?? Buffer.alloc(0)
  }
}

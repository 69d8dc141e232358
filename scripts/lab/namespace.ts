// Programs inside a namespace, and how they end.
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface Output {
  /** Exit status; 128 + the signal's number when a signal ended it, as in a shell. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  /** Milliseconds until the program and its children are killed and `run` fails; default 10,000. */
  readonly timeoutMs?: number
  /** Text for its standard input; default none. */
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

/** Starts `argv` as a process group of its own, so that Ctrl-C reaches it through us alone. */
export function start(
  argv: readonly string[],
  options: { stdio?: StdioOptions; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): ChildProcess {
  const [command, ...rest] = argv
  if (command === undefined) throw new Error('no command given')
  return spawn(command, rest, { detached: true, ...options })
}

/** Runs `argv` to its end. Fails only when it cannot be started or outlives its time, not on its exit status. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Output> {
  const { timeoutMs = 10_000, input = '', env, cwd } = options
  return new Promise((resolve, reject) => {
    const child = start(argv, { ...(env && { env }), ...(cwd && { cwd }) })
    const chunks: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] }
    child.stdout?.on('data', (chunk: Buffer) => chunks.stdout.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => chunks.stderr.push(chunk))
    child.stdin?.on('error', () => {}) // a program that reads no input may close it early
    child.stdin?.end(input)
    let late = false
    const timer = setTimeout(() => {
      late = true
      killGroup(child, 'SIGKILL')
    }, timeoutMs)
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      const stdout = Buffer.concat(chunks.stdout).toString()
      const stderr = Buffer.concat(chunks.stderr).toString()
      if (late) reject(new Error(`${argv.join(' ')}: not done after ${timeoutMs} ms: ${stderr.slice(-500)}`))
      else resolve({ code: code ?? 128 + (signal ? signalNumber(signal) : 0), stdout, stderr })
    })
  })
}

/** Like `run`, but fails on an exit status other than 0. */
export async function mustRun(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.slice(0, 6).join(' ')}: exit status ${code}: ${stderr.trim()}`)
  return stdout
}

/** Sends a signal to a program started here and to all of its children. Harmless when it is gone already. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid !== undefined) sendSignal(-child.pid, signal)
}

/** Sends a signal to one process, or with a negative id to a process group; false when there is none. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

/** Resolves when the program has ended, at once when it has already. */
export function ended(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

const signals: Partial<Record<NodeJS.Signals, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }

/** The number a shell adds to 128 when this signal ended a program. */
export function signalNumber(signal: NodeJS.Signals): number {
  return signals[signal] ?? 0
}

/** The time of start of a process in clock ticks since boot, which tells it from a later one with the same id. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

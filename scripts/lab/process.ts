// Programs the lab starts, and how they end: none of them outlives this process.
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { constants } from 'node:os'

export interface Output {
  /** Exit status; 128 + the signal's number when a signal ended it, as in a shell. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface StartOptions {
  readonly stdio?: StdioOptions
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

export interface RunOptions {
  /** Milliseconds until the program and its children are killed and the call fails; default 60,000. */
  readonly timeoutMs?: number
  /** Text for its standard input; default none. */
  readonly input?: string
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

const running = new Set<ChildProcess>()

/** Starts `argv` as a process group of its own, so that Ctrl-C in a terminal reaches it through us alone. */
export function start(argv: readonly string[], options: StartOptions = {}): ChildProcess {
  const [command, ...rest] = argv
  if (command === undefined) throw new Error('no command given')
  const child = spawn(command, rest, { ...options, detached: true })
  running.add(child)
  child.once('exit', () => running.delete(child))
  child.once('error', () => running.delete(child))
  return child
}

/** Runs `argv` to its end. Fails only when it cannot start or outlives its time, not on its exit status. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Output> {
  const { timeoutMs = 60_000, input = '', ...where } = options
  return new Promise((resolve, reject) => {
    const child = start(argv, where)
    const stdout = gather(child.stdout)
    const stderr = gather(child.stderr)
    child.stdin?.on('error', () => {}) // a program that reads no input may close it early
    child.stdin?.end(input)
    let late = false
    const timer = setTimeout(() => {
      late = true
      kill(child, 'SIGKILL')
    }, timeoutMs)
    child.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      if (late) reject(new Error(`${argv.join(' ')}: not done after ${timeoutMs} ms. ${stderr().trim()}`))
      else resolve({ code: exitStatus(code, signal), stdout: stdout(), stderr: stderr() })
    })
  })
}

/** Like `run`, but fails on an exit status other than 0. */
export async function mustRun(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(argv, options)
  if (code !== 0) throw new Error(`${argv.slice(0, 6).join(' ')}: exit status ${code}. ${stderr.trim()}`)
  return stdout
}

/** Sends a signal to a program started here and all its children; harmless when it has ended. */
export function kill(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid !== undefined && isRunning(child)) sendSignal(-child.pid, signal)
}

/** Sends a signal to a process, or with a negative id to a process group; false when there is none. */
export function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

/** Asks a program to end, and kills it when it has not after `graceMs` milliseconds. */
export async function stop(child: ChildProcess, graceMs: number): Promise<void> {
  if (!isRunning(child)) return
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  kill(child, 'SIGTERM')
  const timer = setTimeout(() => kill(child, 'SIGKILL'), graceMs)
  await gone
  clearTimeout(timer)
}

/** Kills every program started here that still runs. For the last moment of this process: waits for nothing. */
export function killAll(): void {
  for (const child of running) kill(child, 'SIGKILL')
}

/** What a shell would answer for `$?`. */
export function exitStatus(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal ? constants.signals[signal] : 0)
}

function isRunning(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null
}

function gather(stream: NodeJS.ReadableStream | null): () => string {
  const chunks: Buffer[] = []
  stream?.on('data', (chunk: Buffer) => chunks.push(chunk))
  return () => Buffer.concat(chunks).toString()
}

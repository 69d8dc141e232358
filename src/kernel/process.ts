/** Starts one foreign program and waits for its end: argv arrays, no shell, a time limit, bounded output. */
import { spawn } from 'node:child_process'

export interface ProcessResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface ProcessOptions {
  /** Written to its standard input, which is then closed. */
  readonly input?: string | Uint8Array
  /** Beside `programEnvironment()`. */
  readonly env?: Readonly<Record<string, string>>
  /** How its output is read; `latin1` keeps every byte. */
  readonly encoding?: 'utf8' | 'latin1'
  /** Killed when it prints more bytes. */
  readonly maxOutput?: number
  /** Killed after so many milliseconds. */
  readonly timeout: number
  /** Told the id of the process as soon as it runs. */
  readonly onStart?: (pid: number) => void
}

/** Runs a program to its end. The one door to other programs, so that tests can put another in its place. */
export type ProcessRunner = (
  argv: readonly [string, ...string[]],
  options: ProcessOptions,
) => Promise<ProcessResult>

export type ProcessFault = 'missing' | 'timeout' | 'signal' | 'output'

/** The program did not come to an end of its own. */
export class ProcessError extends Error {
  readonly fault: ProcessFault

  constructor(fault: ProcessFault, message: string) {
    super(message)
    this.fault = fault
  }
}

/** A listing of 65,536 counted sources has about 8 MB. */
const MAX_OUTPUT = 64 * 1024 * 1024

/**
 * The environment for foreign programs: messages in English, times in UTC, and the folders of system programs, which
 * unprivileged users often lack in their PATH.
 */
export function programEnvironment(): NodeJS.ProcessEnv {
  return { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C', TZ: 'UTC' }
}

/** @throws ProcessError when it is missing, takes too long, dies by a signal or prints too much */
export const runProcess: ProcessRunner = ([command, ...args], options) =>
  new Promise((resolve, reject) => {
    const { input = '', timeout, onStart, env, encoding = 'utf8', maxOutput = MAX_OUTPUT } = options
    const child = spawn(command, args, { env: { ...programEnvironment(), ...env }, stdio: 'pipe' })
    if (child.pid !== undefined) onStart?.(child.pid)
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    let size = 0
    let fault: ProcessError | null = null
    const kill = (error: ProcessError) => {
      fault ??= error
      child.kill('SIGKILL')
    }
    const timer = setTimeout(
      () => kill(new ProcessError('timeout', `${command} did not end within ${timeout / 1000} s`)),
      timeout,
    )
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxOutput)
          kill(new ProcessError('output', `${command} printed more than ${maxOutput} bytes`))
        else output[stream].push(chunk)
      })
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      const missing = error.code === 'ENOENT'
      reject(
        new ProcessError('missing', missing ? `${command} is not installed` : `${command}: ${error.message}`),
      )
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (fault !== null) reject(fault)
      else if (signal !== null) reject(new ProcessError('signal', `${command} was ended by ${signal}`))
      else {
        const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString(encoding)
        resolve({ code: code ?? 1, stdout: text(output.stdout), stderr: text(output.stderr) })
      }
    })
    // A program that ends without reading its input is told apart by its exit status, not by a broken pipe.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })

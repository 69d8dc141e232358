/** Starts one foreign program and waits for its end: argv arrays, no shell, a time limit, bounded output. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface ProcessResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface ProcessOptions {
  /** Its standard input: it reads all of it or nothing, even should this process be killed meanwhile. */
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

/** How each of them is told, of the command. */
export const FAULTS = {
  missing: (command: string) => new ProcessError('missing', `${command} is not installed`),
  /** After so many milliseconds. */
  timeout: (command: string, after: number) =>
    new ProcessError('timeout', `${command} did not end within ${after / 1000} s`),
  signal: (command: string, signal: string) =>
    new ProcessError('signal', `${command} was ended by ${signal}`),
  output: (command: string, most: number) =>
    new ProcessError('output', `${command} printed more than ${most} bytes`),
}

/** A listing of 65,536 counted sources has about 8 MB. */
export const MAX_OUTPUT = 64 * 1024 * 1024

/**
 * The environment for foreign programs: messages in English, times in UTC, and the folders of system programs, which
 * unprivileged users often lack in their PATH.
 */
export function programEnvironment(): NodeJS.ProcessEnv {
  return { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C', TZ: 'UTC' }
}

/** Bytes that a pipe takes at once; of more, a reader could see a part, and take it for all. */
const AT_ONCE = 65_536

/** @throws ProcessError when it is missing, takes too long, dies by a signal or prints too much */
export const runProcess: ProcessRunner = async (argv, options) => {
  const { input = '' } = options
  const file = goesAtOnce(input) ? null : await fileOf(Buffer.from(input))
  try {
    return await follow(launch(argv, options, file), argv[0], options)
  } finally {
    await file?.close()
  }
}

/** Whether a pipe takes all of it at once, with a line more. */
export function goesAtOnce(input: string | Uint8Array): boolean {
  return input.length * 3 < AT_ONCE || Buffer.byteLength(input) < AT_ONCE
}

/** A file without a name that holds the bytes, read from its beginning; null where there is no room for it. */
async function fileOf(bytes: Buffer): Promise<FileHandle | null> {
  for (const folder of [tmpdir(), '/dev/shm']) {
    const path = join(folder, `egress25-${randomUUID()}`)
    try {
      const file = await open(path, 'wx+', 0o600)
      await unlink(path)
      try {
        // Said where: the position in the file, which its reader shares, stays at the beginning.
        for (let at = 0; at < bytes.length; )
          at += (await file.write(bytes, at, bytes.length - at, at)).bytesWritten
        return file
      } catch (error) {
        await file.close()
        throw error
      }
    } catch {
      // A full or read-only disk must not keep port 25 open: another place, or else a pipe.
    }
  }
  return null
}

/** Starts a program that is to read a file, or what `follow` gives it. */
export function launch(
  [command, ...args]: Parameters<ProcessRunner>[0],
  { env, ownGroup = false }: Pick<ProcessOptions, 'env'> & { readonly ownGroup?: boolean },
  file: FileHandle | null,
): ChildProcess {
  return spawn(command, args, {
    env: { ...programEnvironment(), ...env },
    stdio: [file?.fd ?? 'pipe', 'pipe', 'pipe'],
    detached: ownGroup,
  })
}

/** Gives a program that runs its input, and waits for its end. @throws ProcessError as `runProcess` does */
export function follow(
  child: ChildProcess,
  command: string,
  options: ProcessOptions,
): Promise<ProcessResult> {
  const { input = '', timeout, onStart, encoding = 'utf8', maxOutput = MAX_OUTPUT } = options
  return new Promise((resolve, reject) => {
    if (child.pid !== undefined) onStart?.(child.pid)
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    let size = 0
    let fault: ProcessError | null = null
    const kill = (error: ProcessError) => {
      fault ??= error
      child.kill('SIGKILL')
    }
    const timer = setTimeout(() => kill(FAULTS.timeout(command, timeout)), timeout)
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream]?.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > maxOutput) kill(FAULTS.output(command, maxOutput))
        else output[stream].push(chunk)
      })
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      reject(
        error.code === 'ENOENT'
          ? FAULTS.missing(command)
          : new ProcessError('missing', `${command}: ${error.message}`),
      )
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (fault !== null) reject(fault)
      else if (signal !== null) reject(FAULTS.signal(command, signal))
      else {
        const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString(encoding)
        resolve({ code: code ?? 1, stdout: text(output.stdout), stderr: text(output.stderr) })
      }
    })
    // A program that ends without reading its input is told apart by its exit status, not by a broken pipe.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

/** Whether this process stays for another one. */
export function hold(child: ChildProcess, stays: boolean): void {
  for (const one of [child, ...child.stdio]) {
    const handle = one as { ref?(): void; unref?(): void } | null | undefined
    if (stays) handle?.ref?.()
    else handle?.unref?.()
  }
}

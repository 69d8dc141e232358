/**
 * Runs a program that is not ours with as little as possible: no capabilities, no way to get any, nothing of our
 * environment, a process group that is killed as a whole, and output that is bounded.
 */
import { spawn } from 'node:child_process'
import { withoutControls } from '../formats/syslog.ts'

export interface Confined {
  readonly command: readonly string[]
  readonly input: string
  readonly environment: Readonly<Record<string, string>>
  /** When it has had its time. */
  readonly signal: AbortSignal
}

export interface Ended {
  readonly status: number | null
  readonly signalled: NodeJS.Signals | null
  /** The end of what it printed on standard error, for people. */
  readonly said: string
  /** It was killed for taking too long. */
  readonly late: boolean
}

const MAX_SAID = 4_096
/** Milliseconds for what it has printed to be read. */
const LAST_WORDS = 1_000

/** Never rejects for what the program does. @throws Error when setpriv(1) is missing */
export function runConfined({ command, input, environment, signal }: Confined): Promise<Ended> {
  const { promise, resolve, reject } = Promise.withResolvers<Ended>()
  const child = spawn('setpriv', [...confinement(process.getuid?.() === 0), '--', ...command], {
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C.UTF-8', TZ: 'UTC', ...environment },
    cwd: '/',
    // A process group of its own, which can be killed with all that it has started.
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  let said = ''
  let late = false
  const kill = () => {
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // All of it has ended.
    }
  }
  const end = () => {
    late = true
    kill()
  }
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (chunk: string) => {
    said = (said + chunk).slice(-MAX_SAID)
  })
  // A program need not read its input.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  child.on('error', reject)
  child.on('exit', (status, signalled) => {
    const done = () => resolve({ status, signalled, said: withoutControls(said).trim().slice(-200), late })
    // What it left running ends with it; what has left the group may hold its output open, and is not waited for.
    kill()
    child.once('close', done)
    setTimeout(done, LAST_WORDS).unref()
  })
  return promise.finally(() => {
    signal.removeEventListener('abort', end)
    child.stderr.destroy()
  })
}

/** For setpriv(1). Where the service is root, the program is nobody: root would get all capabilities back. */
function confinement(isRoot: boolean): string[] {
  return [
    ...(isRoot ? ['--reuid=65534', '--regid=65534', '--clear-groups', '--bounding-set=-all'] : []),
    '--ambient-caps=-all',
    '--inh-caps=-all',
    '--no-new-privs',
    '--pdeathsig=KILL',
  ]
}

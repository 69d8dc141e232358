// Runs a program to its end, and says how long it took and how much memory it and all its children had at most.
import { readFileSync, readlinkSync } from 'node:fs'
import { type StartOptions, start } from '../lab/process.ts'

export interface Timed {
  readonly seconds: number
  /** The sum of the largest resident sizes of all its processes: no less than they ever had together. */
  readonly peakBytes: number
  readonly stdout: string
}

/** Often enough to see nearly all that a process grows to: what it adds after the last look is missed. */
const LOOK_EVERY_MS = 20

/** @throws Error when it ends with another status than 0 */
export async function timed(argv: readonly string[], options: StartOptions = {}): Promise<Timed> {
  const started = performance.now()
  const child = start(argv, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.on('data', (chunk: Buffer) => {
      output[stream] += chunk
    })
  }
  const peaks = new Map<number, number>()
  const look = () => {
    for (const pid of child.pid === undefined ? [] : family(child.pid)) {
      peaks.set(pid, Math.max(peakOf(pid), peaks.get(pid) ?? 0))
    }
  }
  const timer = setInterval(look, LOOK_EVERY_MS)
  look()
  try {
    const status = await new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, signal) => resolve(signal ?? code))
    })
    const seconds = (performance.now() - started) / 1000
    if (status !== 0) throw new Error(`${argv.join(' ')}: ${status}. ${output.stderr.trim().slice(0, 2_000)}`)
    const peakBytes = [...peaks.values()].reduce((sum, peak) => sum + peak, 0)
    return { seconds, peakBytes, stdout: output.stdout }
  } finally {
    clearInterval(timer)
  }
}

/** A process and all that descend from it. What is still a copy of its parent has only borrowed its memory. */
function family(pid: number): number[] {
  const program = programOf(pid)
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number)
  return [pid, ...children.filter((child) => programOf(child) !== program).flatMap(family)]
}

function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`)
  } catch {
    return '' // it has ended
  }
}

function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024
}

/** Empty once the process is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

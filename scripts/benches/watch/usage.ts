// What processes have used so far.
import { readdirSync, readFileSync } from 'node:fs'

export interface Usage {
  /** Of processor time, in user and system mode. */
  readonly seconds: number
  /** The largest resident size so far. */
  readonly peakBytes: number
}

/** Of the kernel's clock ticks for user space (`getconf CLK_TCK`): 100 on every architecture that Linux has now. */
const TICKS = 100

/** All zero for a process that has ended. */
export function usageOf(pid: number): Usage {
  const stat = read(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')
  const [user = 0, system = 0] = [Number(fields[11]), Number(fields[12])]
  const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)
  return { seconds: (user + system || 0) / TICKS, peakBytes: peak * 1024 }
}

/** The child of a process that runs a program; null when there is none. */
export function childOf(pid: number, program: string): number | null {
  for (const thread of list(`/proc/${pid}/task`)) {
    for (const child of read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean)) {
      if (read(`/proc/${child}/comm`).trim() === program) return Number(child)
    }
  }
  return null
}

function list(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

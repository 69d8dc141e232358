/** Names of network interfaces by their numbers, as the kernel has them in /sys/class/net. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NameInterface } from './decode-attempt.ts'

/** Milliseconds after which names are read anew: interfaces come, go and are renamed. */
const STALE = 30_000
/** Milliseconds between two readings, however many unknown numbers there are. */
const PAUSE = 1_000

/** `now` gives milliseconds that only grow. Where the directory cannot be read, no interface has a name. */
export function interfaceNames(now: () => number, directory = '/sys/class/net'): NameInterface {
  let names = new Map<number, string>()
  let readAt = Number.NEGATIVE_INFINITY
  return (index) => {
    const age = now() - readAt
    if (age > STALE || (age > PAUSE && !names.has(index))) {
      names = read(directory)
      readAt = now()
    }
    return names.get(index) ?? null
  }
}

function read(directory: string): Map<number, string> {
  const names = new Map<number, string>()
  try {
    for (const name of readdirSync(directory)) {
      const index = readIndex(join(directory, name, 'ifindex'))
      if (index !== null) names.set(index, name)
    }
  } catch {
    // An attempt without the name of its interface is still an attempt.
  }
  return names
}

/** null: not an interface, or one that has just gone. */
function readIndex(file: string): number | null {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10)
  } catch {
    return null
  }
}

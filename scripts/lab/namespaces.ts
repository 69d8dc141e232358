// Finding and removing network namespaces by name, with whatever still runs inside them.
import { spawnSync } from 'node:child_process'
import { readdirSync, readlinkSync, statSync } from 'node:fs'
import { sendSignal } from './process.ts'
import { removal } from './topology.ts'

const directory = '/run/netns'

/** The names of all network namespaces of this machine. */
export function namespaceNames(): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // nobody has made one since the machine started
  }
}

/**
 * Removes those of the named namespaces that exist, and kills what runs inside them. Synchronous, because it
 * must also work in the last moment of a process. Throws when one of them stays.
 */
export function removeNamespaces(names: readonly string[]): void {
  const existing = new Set(namespaceNames())
  const present = names.filter((name) => existing.has(name))
  if (present.length === 0) return
  for (const pid of processesInside(present)) sendSignal(pid, 'SIGKILL')
  const done = spawnSync('ip', ['-force', '-batch', '-'], { input: removal(present), encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`cannot remove ${present.join(' ')}: ${done.stderr}`)
}

function processesInside(names: readonly string[]): number[] {
  const links = new Set(names.map((name) => `net:[${statSync(`${directory}/${name}`).ino}]`))
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return links.has(readlinkSync(`/proc/${pid}/ns/net`))
      } catch {
        return false // it has ended meanwhile
      }
    })
    .map(Number)
}

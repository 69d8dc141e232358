/** The kernel's neighbour table: hardware addresses of machines on the networks at hand. The only place that starts `ip`. */
import { setImmediate } from 'node:timers/promises'
import type { ProcessRunner } from '../kernel/process.ts'
import { parseAddress } from '../policy/prefix.ts'
import type { Reader } from './source.ts'
import { ALL_PORTS, cleanText, NOBODY, type Observation, parseMac } from './subscriber.ts'

const TIMEOUT = 10_000

/** Milliseconds between two looks at the table. */
const INTERVAL = 15_000

/** Reads the table now and then. `now` is in milliseconds since the epoch. */
export function neighbourReader(run: ProcessRunner, now: () => number): Reader {
  let read = Number.NEGATIVE_INFINITY
  return {
    folders: () => [],
    async look(into) {
      if (now() - read < INTERVAL) return null
      read = now()
      const { code, stdout, stderr } = await run(['ip', '-j', 'neigh', 'show'], { timeout: TIMEOUT })
      if (code !== 0) throw new Error(`ip neigh failed with status ${code}: ${stderr.trim().slice(0, 200)}`)
      const seconds = Math.floor(read / 1000)
      into.beginPass()
      for (const observation of parseNeighbours(stdout)) into.take(observation, seconds)
      for (const _ of into.endPass(seconds)) await setImmediate()
      return null
    },
  }
}

/** What `ip -j neigh` prints; entries without a hardware address are left out. @throws Error when it is no such list */
export function parseNeighbours(text: string): readonly Observation[] {
  const found: unknown = text.trim() === '' ? [] : JSON.parse(text)
  if (!Array.isArray(found)) throw new Error('ip neigh printed something that is no list')
  return found.flatMap((entry: { dst?: unknown; lladdr?: unknown; dev?: unknown } | null): Observation[] => {
    const prefix = parseAddress(String(entry?.dst ?? ''))
    const mac = parseMac(String(entry?.lladdr ?? ''))
    if (prefix === null || mac === '') return []
    const identity = { ...NOBODY, mac, port: cleanText(String(entry?.dev ?? '')) }
    return [{ what: 'held', prefix, ports: ALL_PORTS, identity, since: null, until: null, told: null }]
  })
}

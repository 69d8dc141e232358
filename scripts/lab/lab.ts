// The lab: four network namespaces, wired as topology.ts draws them, with real kernels' real packets inside.
//
// It needs root and iproute2. Names carry the id of the process that made them, so any number of labs can be
// open at once, and those of a process that was killed can be told from those in use.
import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { namespaceNames, removeNamespaces } from './namespaces.ts'
import { openProbe, type Probe } from './probe.ts'
import {
  killAll,
  mustRun,
  type Output,
  type RunOptions,
  run,
  type StartOptions,
  sendSignal,
  start,
  stop,
} from './process.ts'
import { cables, defaultPrefixes, type Place, type Prefixes, places, setUp } from './topology.ts'
import { type Handlers, openWorker, type Worker } from './worker-host.ts'

export interface LabOptions {
  /** What lives on the subscribers' side; default 100.64.0.0/10 and 2001:db8:100::/40. */
  readonly subscriberPrefixes?: readonly string[]
  /** What lives on the relays' side; default 192.0.2.0/24 and 2001:db8::/48. All else is the internet. */
  readonly relayPrefixes?: readonly string[]
  /** Whether SIGINT, SIGTERM and SIGHUP end this process (and so the lab); default true. */
  readonly endOnSignal?: boolean
}

export interface Lab {
  readonly id: string
  /** The names of the four namespaces, for `ip netns exec NAME …`. */
  readonly subscribers: string
  readonly relays: string
  readonly gateway: string
  readonly internet: string
  /** Runs a program inside a namespace to its end; fails when it outlives its time (default 10 s). */
  exec(namespace: string, argv: readonly string[], options?: RunOptions): Promise<Output>
  /** Starts a program inside a namespace. `close` ends it together with all its children. */
  spawn(namespace: string, argv: readonly string[], options?: StartOptions): ChildProcess
  /** Starts a worker script (see worker.ts) inside a namespace, and answers calls to it. */
  worker<H extends Handlers>(namespace: string, script: URL): Worker<H>
  /** A probe inside the subscribers' namespace; the same one each time. */
  client(): Promise<Probe>
  /** A new probe inside a namespace, to connect from it or to listen in it. */
  probe(namespace: string): Promise<Probe>
  /** Ends everything that was started inside, and removes the namespaces. May be called twice. */
  close(): Promise<void>
}

const graceMs = 3_000
const shortNames: Record<Place, string> = {
  subscribers: 'sub',
  relays: 'relay',
  gateway: 'gw',
  internet: 'net',
}
const namePattern = /^e25-(\d+)-\d+-(?:sub|relay|gw|net)$/

const openLabs = new Set<string>()
let labsMade = 0

/** Makes a lab: about 50 ms. Fails, leaving nothing behind, without root or iproute2. */
export async function openLab(options: LabOptions = {}): Promise<Lab> {
  const id = `e25-${process.pid}-${++labsMade}`
  const name = (place: Place) => `${id}-${shortNames[place]}`
  const prefixes: Prefixes = {
    subscribers: options.subscriberPrefixes ?? defaultPrefixes.subscribers,
    relays: options.relayPrefixes ?? defaultPrefixes.relays,
  }
  cleanUpAtExit(id, options.endOnSignal ?? true)
  try {
    await mustRun(['ip', '-batch', '-'], { input: cables(name) })
    await Promise.all(
      places.map((place) => mustRun(inside(name(place), ['sh', '-c', setUp(place, prefixes)]))),
    )
  } catch (error) {
    forget(id)
    throw error
  }
  return lab(id, name)
}

/**
 * Removes the labs whose process no longer lives, such as after a power cut or a SIGKILL, with what still runs
 * inside them. Answers the names of the namespaces removed.
 */
export function removeStaleLabs(): string[] {
  const stale = namespaceNames().filter((name) => {
    const pid = namePattern.exec(name)?.[1]
    return pid !== undefined && !sendSignal(Number(pid), 0)
  })
  removeNamespaces(stale)
  return stale
}

function lab(id: string, name: (place: Place) => string): Lab {
  const children = new Set<ChildProcess>()
  let firstClient: Promise<Probe> | undefined
  const self: Lab = {
    id,
    subscribers: name('subscribers'),
    relays: name('relays'),
    gateway: name('gateway'),
    internet: name('internet'),
    exec: (namespace, argv, options) => run(inside(namespace, argv), options),
    spawn(namespace, argv, options) {
      const child = start(inside(namespace, argv), options)
      children.add(child)
      child.once('exit', () => children.delete(child))
      return child
    },
    worker: (namespace, script) =>
      openWorker((argv, stdio) => self.spawn(namespace, argv, { stdio }), script),
    client() {
      firstClient ??= self.probe(self.subscribers)
      return firstClient
    },
    probe: (namespace) => openProbe(self, namespace),
    async close() {
      await Promise.all([...children].map((child) => stop(child, graceMs)))
      forget(id)
    },
  }
  return self
}

function inside(namespace: string, argv: readonly string[]): string[] {
  return ['ip', 'netns', 'exec', namespace, ...argv]
}

function forget(id: string): void {
  if (!openLabs.delete(id)) return
  removeNamespaces(Object.values(shortNames).map((short) => `${id}-${short}`))
  if (openLabs.size > 0) return
  process.off('exit', removeOpenLabs)
  for (const signal of endingSignals) process.off(signal, endOn)
}

const endingSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

function cleanUpAtExit(id: string, endOnSignal: boolean): void {
  if (openLabs.size === 0) process.once('exit', removeOpenLabs)
  openLabs.add(id)
  if (!endOnSignal) return
  for (const signal of endingSignals)
    if (!process.listeners(signal).includes(endOn)) process.on(signal, endOn)
}

function endOn(signal: NodeJS.Signals): void {
  process.exit(128 + constants.signals[signal])
}

// Every way out of a process but SIGKILL passes here: its end, process.exit, an uncaught error, our signals.
function removeOpenLabs(): void {
  killAll()
  for (const id of openLabs) {
    try {
      forget(id)
    } catch (error) {
      process.stderr.write(`${error}\n`) // and go on with the next
    }
  }
}

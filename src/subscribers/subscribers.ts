/**
 * Who was behind an address at a time: asks all sources, which follow their files while this runs.
 *
 *   a folder changes ─► soon ─┐
 *   every few seconds ────────┴─► look at each source, one after the other ─► forget what is too old
 */
import { type FSWatcher, watch } from 'node:fs'
import type { Prefix } from '../policy/prefix.ts'
import type { Holding } from './holdings.ts'
import type { Source, SourceStatus } from './source.ts'
import type { Identity, Subscriber } from './subscriber.ts'

export interface SubscribersOptions {
  readonly sources: readonly Source[]
  /** Milliseconds after its end for which a holding is known. */
  readonly retain: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** Changes that no watch told of are found so many milliseconds later. */
const POLL = 5_000
/** Milliseconds after the first change of a burst. */
const SOON = 100
const FORGET_EVERY = 600_000
/** Folders come and go. */
const WATCH_AGAIN = 30_000

export class Subscribers {
  readonly #options: SubscribersOptions
  readonly #watchers = new Map<string, FSWatcher>()
  #timer: NodeJS.Timeout | null = null
  #looking: Promise<void> | null = null
  #due = Number.POSITIVE_INFINITY
  #isStopped = false
  #isBehind = false
  #forgotten = 0
  #watched = Number.NEGATIVE_INFINITY

  constructor(options: SubscribersOptions) {
    this.#options = options
  }

  /** Reads all sources once; later changes are followed until `stop`. */
  async start(): Promise<void> {
    if (this.#options.sources.length > 0) await this.#look()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    for (const watcher of this.#watchers.values()) watcher.close()
    await this.#looking
  }

  /**
   * Who had the address (or the prefix) at the time, in milliseconds since the epoch, with the TCP source port where it
   * is known: without it nobody can be named behind an address that several share (RFC 6302 §2). null: nobody knows.
   */
  find(address: Prefix, time: number, port: number | null): Subscriber | null {
    if (time < this.#options.now() - this.#options.retain) return null
    const found = this.#options.sources.flatMap((source) => {
      const holding = source.find(address, Math.floor(time / 1000), port)
      return holding === null ? [] : [{ source: source.name, holding }]
    })
    const [first] = found
    return first === undefined
      ? null
      : subscriberOf(
          first.source,
          found.map(({ holding }) => holding),
        )
  }

  status(): SourceStatus[] {
    return this.#options.sources.map((source) => source.status())
  }

  /** Looks within so many milliseconds. */
  #soon(delay: number): void {
    const due = performance.now() + delay
    if (this.#isStopped || due >= this.#due) return
    this.#due = due
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#due = Number.POSITIVE_INFINITY
      // What was changed behind its back is for another look.
      if (this.#looking === null) void this.#look()
      else this.#isBehind = true
    }, delay)
  }

  #look(): Promise<void> {
    this.#looking ??= this.#lookAtAll().finally(() => {
      this.#looking = null
    })
    return this.#looking
  }

  async #lookAtAll(): Promise<void> {
    const { sources, retain, now } = this.#options
    this.#isBehind = false
    // First: what is written while a file is read is worth another look.
    this.#watch()
    let again = POLL
    for (const source of sources) {
      if (this.#isStopped) return
      again = Math.min(again, (await source.look()) ?? POLL)
    }
    if (now() - this.#forgotten >= FORGET_EVERY) {
      this.#forgotten = now()
      for (const source of sources) await source.forget(Math.floor((now() - retain) / 1000))
    }
    this.#soon(this.#isBehind ? SOON : again)
  }

  /** A watch makes it quick, and nothing depends on it: folders may not be there yet, or be on another machine. */
  #watch(): void {
    if (performance.now() - this.#watched < WATCH_AGAIN) return
    this.#watched = performance.now()
    for (const folder of new Set(this.#options.sources.flatMap((source) => source.folders()))) {
      if (this.#watchers.has(folder)) continue
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#soon(SOON))
        const drop = () => {
          watcher.close()
          this.#watchers.delete(folder)
        }
        watcher.on('error', drop)
        watcher.on('close', () => this.#watchers.delete(folder))
        this.#watchers.set(folder, watcher)
      } catch {
        // It is looked at every few seconds.
      }
    }
  }
}

/** What the first says, and of what it does not say, what the others do. */
function subscriberOf(source: string, holdings: readonly Holding[]): Subscriber {
  const field = (name: keyof Identity) =>
    holdings.map(({ identity }) => identity[name]).find((value) => value !== '') ?? null
  const since = holdings[0]?.since ?? 0
  return {
    name: field('name'),
    account: field('account'),
    contact: field('contact'),
    mac: field('mac'),
    port: field('port'),
    source,
    since: since === 0 ? null : new Date(since * 1000).toISOString(),
  }
}

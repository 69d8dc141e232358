/** What one machine did lately, as far as judging it takes: counts and distinct keys within the policy's windows. */
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import { RecentCount, RecentKeys } from './recent.ts'

/** An address as a key: cheap to keep and to compare. */
export type Key = number | bigint

/** What happened within one span. */
export interface Span {
  readonly window: number
  readonly attempts: number
  readonly connections: number
  readonly destinations: number
}

export interface Traits {
  /** The policy's window for spam-bots, for misconfigured clients and for slow bots. */
  readonly fast: Span
  readonly patient: Span
  readonly slow: Span
  readonly scan: Span & {
    /** Destinations that have neighbours enough among the others to look like one sweep. */
    readonly neighbours: number
  }
  /** Distinct source addresses, lately. */
  readonly sources: number
  /** Milliseconds that the machine has been watched. */
  readonly age: number
}

/** Most destinations that are told apart within a window. */
export const MOST_DISTINCT = 10_000
/** So many times the threshold leave no doubt; more need not be told apart. */
export const DEFINITE = 3
/** The last retransmission of a SYN comes about two minutes after it (Linux: 127 s with six of them). */
const CONNECTION = 150_000
const MOST_CONNECTIONS = 64
const MOST_SOURCES = 64
const SOURCES_WITHIN = 3_600_000
/** Addresses within one block of 256 of which so many were tried are neighbours. */
const NEIGHBOURS = 8

class Window {
  readonly #window: number
  readonly #attempts: RecentCount
  readonly #connections: RecentCount
  readonly destinations: RecentKeys<Key>

  constructor(window: number, distinct: number) {
    this.#window = window
    this.#attempts = new RecentCount(window)
    this.#connections = new RecentCount(window)
    this.destinations = new RecentKeys(window, Math.min(distinct, MOST_DISTINCT))
  }

  add(destination: Key, isConnection: boolean, time: number): void {
    this.#attempts.add(1, time)
    if (isConnection) this.#connections.add(1, time)
    this.destinations.add(destination, time)
  }

  span(now: number): Span {
    this.#attempts.expire(now)
    this.#connections.expire(now)
    this.destinations.expire(now)
    return {
      window: this.#window,
      attempts: this.#attempts.sum,
      connections: this.#connections.sum,
      destinations: this.destinations.size,
    }
  }
}

export class MachineTraits {
  readonly #fast: Window
  readonly #patient: Window
  readonly #slow: Window
  readonly #scan: Window
  /** Tells connections apart: a retransmitted SYN belongs to the connection it began. */
  readonly #connections = new RecentKeys<Key | string>(CONNECTION, MOST_CONNECTIONS)
  readonly #sources = new RecentKeys<Key>(SOURCES_WITHIN, MOST_SOURCES)
  readonly #scanThreshold: number
  #first: number | null = null
  #neighbours = 0
  #countedVersion = -1

  constructor({ spamBot, misconfigured, slowBot, scanner }: Thresholds) {
    this.#fast = new Window(spamBot.window, DEFINITE * spamBot.destinations)
    this.#patient = new Window(misconfigured.window, spamBot.destinations)
    this.#slow = new Window(slowBot.window, DEFINITE * Math.max(slowBot.destinations, spamBot.destinations))
    this.#scan = new Window(scanner.window, DEFINITE * scanner.destinations)
    this.#scanThreshold = scanner.destinations
  }

  /** `time` must not run backwards. */
  add({ source, sourcePort, destination }: Attempt, time: number): void {
    this.#first ??= time
    const to = destination.address
    const connection =
      destination.family === 4
        ? destination.address * 65_536 + sourcePort
        : `${source.address} ${sourcePort} ${destination.address}`
    const isConnection = this.#connections.add(connection, time)
    for (const window of [this.#fast, this.#patient, this.#slow, this.#scan])
      window.add(to, isConnection, time)
    this.#sources.add(source.address, time)
  }

  at(now: number): Traits {
    const scan = this.#scan.span(now)
    return {
      fast: this.#fast.span(now),
      patient: this.#patient.span(now),
      slow: this.#slow.span(now),
      scan: { ...scan, neighbours: scan.destinations >= this.#scanThreshold ? this.#countNeighbours() : 0 },
      sources: this.#sources.size,
      age: now - (this.#first ?? now),
    }
  }

  #countNeighbours(): number {
    const { version } = this.#scan.destinations
    if (version === this.#countedVersion) return this.#neighbours
    const blocks = new Map<Key, number>()
    for (const key of this.#scan.destinations.keys()) {
      const block = typeof key === 'bigint' ? key >> 8n : Math.floor(key / 256)
      blocks.set(block, (blocks.get(block) ?? 0) + 1)
    }
    this.#neighbours = [...blocks.values()].reduce((sum, some) => (some >= NEIGHBOURS ? sum + some : sum), 0)
    this.#countedVersion = version
    return this.#neighbours
  }
}

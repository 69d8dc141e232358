/** What is summed up of a machine as long as it is watched: how much, when, to where and from where. */
import { format4, format6 } from '../policy/prefix.ts'
import type { Attempt } from '../watch/attempt.ts'
import type { Incident } from './incident.ts'
import type { Key } from './traits.ts'

/** What all open incidents share: destinations are named as long as there is room for their names. */
export class Room {
  #names = 0

  /** About 30 MB. */
  static readonly MOST = 500_000

  take(): boolean {
    if (this.#names >= Room.MOST) return false
    this.#names++
    return true
  }

  give(names: number): void {
    this.#names -= names
  }
}

/** Destinations by name of one machine: before there is an incident, and then. */
const FEW = 64
const MANY = 1_000
const TOP_DESTINATIONS = 5
const TOP_PLACES = 3
/** Interfaces and hardware addresses that are told apart. */
const PLACES = 8

export class Tally {
  readonly #destinations = new Map<Key, number>()
  readonly #interfaces = new Map<string, number>()
  readonly #hardware = new Map<string, number>()
  #room: Room | null = null
  told = 0
  readonly firstSeen: number
  lastSeen: number

  constructor(time: number) {
    this.firstSeen = time
    this.lastSeen = time
  }

  add({ destination, mac, interface: place }: Attempt, time: number): void {
    this.told++
    this.lastSeen = Math.max(this.lastSeen, time)
    if (place !== null) count(this.#interfaces, place)
    if (mac !== null) count(this.#hardware, mac)
    const known = this.#destinations.get(destination.address)
    if (known !== undefined || this.#hasRoom()) {
      this.#destinations.set(destination.address, (known ?? 0) + 1)
    }
  }

  /** An incident is opened: there is room for more names. */
  widen(room: Room): void {
    this.#room = room
  }

  /** And closed. */
  narrow(): void {
    this.#room?.give(Math.max(0, this.#destinations.size - FEW))
    this.#room = null
  }

  get destinations(): number {
    return this.#destinations.size
  }

  get topDestinations(): Incident['topDestinations'] {
    return top(this.#destinations, TOP_DESTINATIONS).map(([key, attempts]) => ({
      destination: typeof key === 'bigint' ? format6(key) : format4(key),
      attempts,
    }))
  }

  get interfaces(): string[] {
    return top(this.#interfaces, TOP_PLACES).map(([name]) => name)
  }

  get hardwareAddresses(): string[] {
    return top(this.#hardware, TOP_PLACES).map(([name]) => name)
  }

  #hasRoom(): boolean {
    const { size } = this.#destinations
    return size < FEW || (size < MANY && this.#room !== null && this.#room.take())
  }
}

function count(counts: Map<string, number>, name: string): void {
  const known = counts.get(name)
  if (known !== undefined || counts.size < PLACES) counts.set(name, (known ?? 0) + 1)
}

/** The largest first; of equal ones, the one that came first. */
function top<K>(counts: ReadonlyMap<K, number>, most: number): [K, number][] {
  const found: [K, number][] = []
  for (const entry of counts) {
    if (found.length === most && entry[1] <= (found.at(-1)?.[1] ?? 0)) continue
    found.push(entry)
    found.sort(([, a], [, b]) => b - a)
    if (found.length > most) found.pop()
  }
  return found
}

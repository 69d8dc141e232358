/** Attempts of one machine within the last span of time, counted as they come and go. */
export interface WindowEntry {
  readonly time: number
  readonly destination: string
  /** Tells connections apart: a retransmitted SYN belongs to the connection it began. */
  readonly connection: string
}

export class SlidingWindow {
  readonly #span: number
  readonly #capacity: number
  readonly #destinations = new Map<string, number>()
  readonly #connections = new Map<string, number>()
  #entries: WindowEntry[] = []
  #first = 0

  /** Keeps entries for `span` milliseconds, and at most `capacity` of them. */
  constructor(span: number, capacity: number) {
    this.#span = span
    this.#capacity = capacity
  }

  add(entry: WindowEntry): void {
    this.#entries.push(entry)
    change(this.#destinations, entry.destination, 1)
    change(this.#connections, entry.connection, 1)
    while (this.attempts > this.#capacity || this.#isOld(entry.time)) this.#dropFirst()
    // Moving the rest to the front now and then costs less than shifting at each step.
    if (this.#first > this.#capacity) {
      this.#entries = this.#entries.slice(this.#first)
      this.#first = 0
    }
  }

  get attempts(): number {
    return this.#entries.length - this.#first
  }

  get destinations(): number {
    return this.#destinations.size
  }

  get connections(): number {
    return this.#connections.size
  }

  /** When the oldest attempt came; null when there is none. */
  get firstTime(): number | null {
    return this.#entries[this.#first]?.time ?? null
  }

  /** Attempts by destination, as a copy. */
  perDestination(): Map<string, number> {
    return new Map(this.#destinations)
  }

  #isOld(now: number): boolean {
    const oldest = this.#entries[this.#first]
    return oldest !== undefined && oldest.time <= now - this.#span
  }

  #dropFirst(): void {
    const oldest = this.#entries[this.#first++]
    if (oldest === undefined) return
    change(this.#destinations, oldest.destination, -1)
    change(this.#connections, oldest.connection, -1)
  }
}

function change(counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}

/** What happened within the last span of time, in memory that is bounded however much does. */

/** Distinct keys, each by the time when it was last seen. */
export class RecentKeys<K> {
  readonly #span: number
  readonly #capacity: number
  /** In the order of their times. */
  readonly #times = new Map<K, number>()
  #version = 0

  /** Keeps keys for `span` milliseconds, and at most `capacity` of them: of more, the oldest are forgotten. */
  constructor(span: number, capacity: number) {
    this.#span = span
    this.#capacity = capacity
  }

  /** Whether the key is new. Times must not run backwards. */
  add(key: K, time: number): boolean {
    this.expire(time)
    const isNew = !this.#times.delete(key)
    this.#times.set(key, time)
    if (isNew) {
      this.#version++
      if (this.#times.size > this.#capacity) this.#dropFirst()
    }
    return isNew
  }

  expire(now: number): void {
    for (const time of this.#times.values()) {
      if (time > now - this.#span) return
      this.#dropFirst()
    }
  }

  get size(): number {
    return this.#times.size
  }

  /** Another number whenever other keys are in it. */
  get version(): number {
    return this.#version
  }

  keys(): Iterable<K> {
    return this.#times.keys()
  }

  #dropFirst(): void {
    for (const key of this.#times.keys()) {
      this.#times.delete(key)
      this.#version++
      return
    }
  }
}

/** A span is counted in so many slices: what leaves it does so a slice at a time. */
const SLICES = 12

/** How often something happened; exact but for the age of the oldest, which is known to a twelfth of the span. */
export class RecentCount {
  readonly #slice: number
  readonly #counts: number[] = []
  #newest = 0
  #sum = 0

  constructor(span: number) {
    this.#slice = span / SLICES
  }

  add(count: number, time: number): void {
    this.expire(time)
    const { length } = this.#counts
    this.#counts[length === 0 ? 0 : length - 1] = (this.#counts[length - 1] ?? 0) + count
    this.#sum += count
  }

  expire(now: number): void {
    const slice = Math.floor(now / this.#slice)
    if (this.#counts.length === 0) this.#newest = slice
    for (; this.#newest < slice && this.#sum > 0; this.#newest++) {
      this.#counts.push(0)
      if (this.#counts.length > SLICES) this.#sum -= this.#counts.shift() ?? 0
    }
    if (this.#newest < slice) {
      this.#counts.length = 0
      this.#newest = slice
    }
  }

  get sum(): number {
    return this.#sum
  }
}

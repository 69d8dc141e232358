/**
 * The heaviest of very many, in bounded memory (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and
 * Top-k Elements in Data Streams, 2005). Of N observations with `capacity` counters, whatever was seen more than
 * N / capacity times is there, and `count - error` is a number of times that it was certainly seen.
 */
export interface Counter<K, V> {
  readonly key: K
  count: number
  /** Of the count, what may have been another's, whose counter this was before. */
  error: number
  /** What else is kept with it. */
  readonly value: V
}

export class SpaceSaving<K, V = undefined> {
  readonly #capacity: number
  readonly #newValue: (key: K) => V
  readonly #counters = new Map<K, Counter<K, V>>()
  /** By count; within one, the one that has had it longest comes first. */
  readonly #byCount = new Map<number, Map<K, Counter<K, V>>>()
  #least = 1

  constructor(capacity: number, newValue: (key: K) => V) {
    this.#capacity = capacity
    this.#newValue = newValue
  }

  /** Counts one more. A key that comes anew takes the counter of the one with the least when all are in use. */
  add(key: K): Counter<K, V> {
    const known = this.#counters.get(key)
    if (known !== undefined) {
      this.#leave(known)
      known.count++
      this.#enter(known)
      return known
    }
    const error = this.#counters.size < this.#capacity ? 0 : this.#dropLeast()
    const counter = { key, count: error + 1, error, value: this.#newValue(key) }
    this.#counters.set(key, counter)
    this.#enter(counter)
    return counter
  }

  delete(key: K): void {
    const counter = this.#counters.get(key)
    if (counter === undefined) return
    this.#leave(counter)
    this.#counters.delete(key)
  }

  get(key: K): Counter<K, V> | undefined {
    return this.#counters.get(key)
  }

  get size(): number {
    return this.#counters.size
  }

  values(): Iterable<Counter<K, V>> {
    return this.#counters.values()
  }

  /** The heaviest first, by what they were certainly seen. */
  top(most: number): Counter<K, V>[] {
    return [...this.#counters.values()].sort((a, b) => b.count - b.error - (a.count - a.error)).slice(0, most)
  }

  /** Answers the count that it had. */
  #dropLeast(): number {
    for (;;) {
      const bucket = this.#byCount.get(this.#least)
      for (const [key, counter] of bucket ?? []) {
        this.#leave(counter)
        this.#counters.delete(key)
        return counter.count
      }
      // Nothing has so little any more. Counts only grow, but for those that come anew with 1.
      this.#least++
    }
  }

  #enter(counter: Counter<K, V>): void {
    let bucket = this.#byCount.get(counter.count)
    if (bucket === undefined) {
      bucket = new Map()
      this.#byCount.set(counter.count, bucket)
    }
    bucket.set(counter.key, counter)
    this.#least = Math.min(this.#least, counter.count)
  }

  #leave({ key, count }: Counter<K, V>): void {
    const bucket = this.#byCount.get(count)
    bucket?.delete(key)
    if (bucket?.size === 0) this.#byCount.delete(count)
  }
}

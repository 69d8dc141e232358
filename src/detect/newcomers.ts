/**
 * Machines that have hardly done anything yet. A flood from spoofed addresses consists of nothing else: so that it can
 * neither fill the memory nor drive out those who matter, they wait here, in a sketch that keeps the heaviest, until
 * they have shown often enough that they exist.
 */
import type { Attempt } from '../watch/attempt.ts'
import { SpaceSaving } from './space-saving.ts'

export interface Newcomer {
  readonly attempts: Attempt[]
}

export class Newcomers {
  readonly #capacity: number
  #sketch: SpaceSaving<string, Newcomer>

  constructor(capacity: number) {
    this.#capacity = capacity
    this.#sketch = newSketch(capacity)
  }

  get size(): number {
    return this.#sketch.size
  }

  /** Whether the machine was not there before; and its attempts, once there are so many of them. */
  add(
    machine: string,
    attempt: Attempt,
    enough: number,
  ): { isNew: boolean; known: readonly Attempt[] | null } {
    const { count, error, value } = this.#sketch.add(machine)
    value.attempts.push(attempt)
    if (count - error < enough) return { isNew: count - error === 1, known: null }
    this.#sketch.delete(machine)
    return { isNew: enough === 1, known: value.attempts }
  }

  /** The machine is no newcomer any more; answers what it did. */
  take(machine: string): readonly Attempt[] {
    const { attempts } = this.#sketch.get(machine)?.value ?? { attempts: [] }
    this.#sketch.delete(machine)
    return attempts
  }

  /** Forgets those whose latest attempt was before the time, in milliseconds since the epoch. */
  forget(before: number): void {
    const kept = newSketch(this.#capacity)
    let forgotten = false
    for (const { key, value } of this.#sketch.values()) {
      if ((value.attempts.at(-1)?.time ?? 0) < before) forgotten = true
      else for (const attempt of value.attempts) kept.add(key).value.attempts.push(attempt)
    }
    // Those that stay begin anew, without the errors that a flood has left in their counts.
    if (forgotten) this.#sketch = kept
  }
}

function newSketch(capacity: number): SpaceSaving<string, Newcomer> {
  return new SpaceSaving(capacity, () => ({ attempts: [] }))
}

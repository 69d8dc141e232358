/** Sums of the kernel's counters that only ever grow, also when a replaced table counts from zero again. */
import type { Total, TotalOf } from '../compile/ruleset.ts'

export interface Sum {
  readonly what: TotalOf
  readonly packets: number
}

interface Tracked {
  what: TotalOf
  packets: number
  seen: number
}

export class RunningTotals {
  readonly #tracked = new Map<number, Tracked>()

  /** Takes a reading of the kernel. */
  update(totals: readonly Total[], reading: ReadonlyMap<number, number>): void {
    for (const { id, what } of totals) {
      const now = reading.get(id) ?? 0
      const known = this.#tracked.get(id)
      if (known === undefined) this.#tracked.set(id, { what, packets: now, seen: now })
      else {
        known.packets += now >= known.seen ? now - known.seen : now
        known.seen = now
      }
    }
  }

  sums(): Sum[] {
    return [...this.#tracked.values()].map(({ what, packets }) => ({ what, packets }))
  }

  /** All attempts of all policies. */
  attempts(): number {
    return this.sums().reduce((sum, { what, packets }) => (what.of === 'attempts' ? sum + packets : sum), 0)
  }

  attemptsByPolicy(): Map<string, number> {
    const attempts = new Map<string, number>()
    for (const { what, packets } of this.#tracked.values()) {
      if (what.of === 'attempts') attempts.set(what.policy, (attempts.get(what.policy) ?? 0) + packets)
    }
    return attempts
  }
}

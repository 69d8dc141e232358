/**
 * How many attempts we know only by their number. The kernel counts each attempt; details reach us over a socket that
 * may overflow, and only up to a limit per source. What was counted and never told is lost.
 *
 * The two numbers are never read at the same instant, and what was told may wait in a full socket until a busy machine has
 * read all before it. So a count is held against what was told only once nothing more has come for a whole interval; or,
 * where attempts come without a pause, so many counts later. While they stream in, the loss is therefore at most
 * underestimated; at rest it is exact.
 */
export class LossMeter {
  /** The latest counts, the oldest first. */
  #counts: number[] = []
  #toldBefore = 0
  #baseline = 0
  #lost = 0

  /**
   * Takes the kernel's count of attempts and the number told so far; both only grow. Returns what is lost so far. The
   * first count is the mark to start from: what went before was another run's to tell.
   */
  update(counted: number, told: number): number {
    if (this.#counts.length === 0) this.#baseline = counted - told - this.#lost
    else {
      const isAtRest = told === this.#toldBefore
      const due = isAtRest
        ? this.#counts.at(-1)
        : this.#counts.length === LATEST
          ? this.#counts[0]
          : undefined
      if (due !== undefined) this.#lost = Math.max(this.#lost, due - this.#baseline - told)
    }
    this.#toldBefore = told
    this.#counts.push(counted)
    if (this.#counts.length > LATEST) this.#counts.shift()
    return this.#lost
  }

  /** The counters were lost with the table: what they still had to tell nobody knows, and counting starts afresh. */
  restart(): void {
    this.#counts = []
  }

  get lost(): number {
    return this.#lost
  }
}

/** Counts, one a second, after which even a machine that is all too busy has read what was told. */
const LATEST = 5

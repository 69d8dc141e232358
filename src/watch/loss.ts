/**
 * How many attempts we know only by their number. The kernel counts each attempt; details reach us over a socket that
 * may overflow, and only up to a limit per source. What was counted and never told is lost.
 *
 * The two numbers are never read at the same instant, so a count is held against what has arrived by the time of the
 * *next* count. While attempts stream in, the loss is therefore at most underestimated; at rest it is exact.
 */
export class LossMeter {
  #countedBefore: number | null = null
  #baseline = 0
  #lost = 0

  /**
   * Takes the kernel's count of attempts and the number told so far; both only grow. Returns what is lost so far. The
   * first count is the mark to start from: what went before was another run's to tell.
   */
  update(counted: number, told: number): number {
    if (this.#countedBefore === null) this.#baseline = counted - told - this.#lost
    else this.#lost = Math.max(this.#lost, this.#countedBefore - this.#baseline - told)
    this.#countedBefore = counted
    return this.#lost
  }

  /** The counters were lost with the table: what they still had to tell nobody knows, and counting starts afresh. */
  restart(): void {
    this.#countedBefore = null
  }

  get lost(): number {
    return this.#lost
  }
}

/** How many lines of one sort go to the log in a second: a flood of packets must not become a flood of lines. */
export class LineBudget {
  readonly #perSecond: number
  #second = 0
  #written = 0
  #leftOut = 0

  constructor(perSecond: number) {
    this.#perSecond = perSecond
  }

  /** Whether one more may be written. `now` is in milliseconds since the epoch. */
  take(now: number): boolean {
    const second = Math.floor(now / 1_000)
    if (second !== this.#second) {
      this.#second = second
      this.#written = 0
    }
    if (this.#written < this.#perSecond) {
      this.#written++
      return true
    }
    this.#leftOut++
    return false
  }

  /** How many were left out since this was last asked. */
  takeLeftOut(): number {
    const leftOut = this.#leftOut
    this.#leftOut = 0
    return leftOut
  }
}

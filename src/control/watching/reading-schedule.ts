/**
 * When the counters of machines are read: once a minute while something happens, and sooner when much of it was counted
 * that nobody told. Pure; times are milliseconds since the epoch.
 */

const MINUTE = 60_000
/** Attempts that were counted and not told, and make a reading worth its while before the minute is over. */
const MUCH_UNTOLD = 1_000
/** Until it is read, should it not have come to its end before: what is read at the end is all of it. */
const BURST = 5_000
/** Between readings: what the one before has counted was told by the next, or is lost. */
const GAP = 10_000
/** The last change is followed by one reading more, to see that all has been told. */
const READINGS = 2

export class ReadingSchedule {
  #minute = 0
  #at = Number.NEGATIVE_INFINITY
  #due = READINGS
  /** Attempts since the last reading that were counted, less those that were told. */
  #untold = 0
  /** Since when that is much, and how much it was a second ago. */
  #muchSince: number | null = null
  #untoldBefore = 0

  /** The first reading is made now, out of turn; answers the time that it counts for. */
  first(now: number): number {
    this.#minute = Math.floor(now / MINUTE)
    return endOf(this.#minute)
  }

  /** The first one failed. */
  notRead(): void {
    this.#minute = 0
  }

  /** Something was counted. */
  happened(): void {
    this.#due = READINGS
  }

  /** So many attempts were counted, negative: told, that may be blocked. */
  addUntold(attempts: number): void {
    this.#untold += attempts
  }

  /** To be asked once a second. Whether a burst has come to its end, or gone on for long, that was not told. */
  isUrgent(now: number): boolean {
    const before = this.#untoldBefore
    this.#untoldBefore = this.#untold
    if (this.#untold < MUCH_UNTOLD) {
      this.#muchSince = null
      return false
    }
    this.#muchSince ??= now
    return this.#untold <= before || Math.abs(now - this.#muchSince) >= BURST
  }

  /** Begins a reading where it is time for one; answers the time that it counts for, or null. */
  begin(now: number, isUrgent: boolean): number | null {
    // The clock may have been set back.
    if (Math.abs(now - this.#at) < GAP) return null
    const minute = Math.floor(now / MINUTE)
    const isDue = this.#due > 0 && minute !== this.#minute
    if (!isDue && !isUrgent) return null
    if (isDue) {
      this.#minute = minute
      this.#due--
    }
    this.#at = now
    this.#untold = 0
    this.#untoldBefore = 0
    this.#muchSince = null
    return isDue ? endOf(minute) : now
  }
}

/** What was counted by the minute's end counts for the minute that has ended. */
function endOf(minute: number): number {
  return minute * MINUTE - 1
}

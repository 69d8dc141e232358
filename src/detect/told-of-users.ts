/**
 * What was told of local users who may send from one address. The kernel counts by address: what it has counted beyond what
 * was told is the user's, where there is only one, and else nobody can say whose.
 */

export class ToldOfUsers {
  readonly #span: number
  #now = 0
  /** Told, and not counted yet; counters are read once a minute. */
  #ahead = 0
  /** Told within the span. */
  #told = 0
  /** Users within the span, and the one before: two are as good as many. */
  #users = new Set<number>()
  #usersBefore = new Set<number>()

  /** What was told is waited for, and users are known, for so many milliseconds at least, and twice as long at most. */
  constructor(span: number) {
    this.#span = span
  }

  /** An attempt of the user was told. */
  add(uid: number, time: number): void {
    this.#advance(time)
    this.#ahead++
    this.#told++
    if (this.#users.size < 2) this.#users.add(uid)
  }

  /** The kernel has counted so many more. Answers how many of them nobody was told of; uid null: of whom, nobody knows. */
  counted(attempts: number, time: number): { readonly uid: number | null; readonly untold: number } {
    this.#advance(time)
    const told = Math.min(attempts, this.#ahead)
    this.#ahead -= told
    const users = new Set([...this.#users, ...this.#usersBefore])
    const [only = null] = users
    return { uid: users.size === 1 ? only : null, untold: attempts - told }
  }

  #advance(time: number): void {
    const span = Math.floor(time / this.#span)
    if (span <= this.#now) return
    const isNext = span === this.#now + 1
    // What was told so long ago and is not counted, the kernel has forgotten.
    this.#ahead = isNext ? Math.min(this.#ahead, this.#told) : 0
    this.#usersBefore = isNext ? this.#users : new Set()
    this.#users = new Set()
    this.#told = 0
    this.#now = span
  }
}

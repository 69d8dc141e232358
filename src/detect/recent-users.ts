/**
 * Who made attempts from one address lately. The kernel counts by address: what it has counted and nobody was told of is the
 * one's who is the only one there, and else nobody can say whose.
 */

/** null: not a user of this machine, but something that has the address all the same. */
type User = number | null

export class RecentUsers {
  readonly #span: number
  #now = 0
  /** Within the span, and the one before: two are as good as many. */
  #users = new Set<User>()
  #before = new Set<User>()

  /** Users are known for so many milliseconds at least, and twice as long at most. */
  constructor(span: number) {
    this.#span = span
  }

  /** An attempt of the user was told. */
  add(user: User, time: number): void {
    this.#advance(time)
    const age = this.#now - Math.floor(time / this.#span)
    const users = age === 0 ? this.#users : age === 1 ? this.#before : null
    if (users !== null && users.size < 2) users.add(user)
  }

  /** The only user lately; null: there was none, or several. */
  only(now: number): User {
    this.#advance(now)
    const [one = null, other] = new Set([...this.#users, ...this.#before])
    return other === undefined ? one : null
  }

  #advance(time: number): void {
    const span = Math.floor(time / this.#span)
    if (span <= this.#now) return
    this.#before = span === this.#now + 1 ? this.#users : new Set()
    this.#users = new Set()
    this.#now = span
  }
}

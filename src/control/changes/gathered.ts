/** What is asked for while others have their turn waits together, and then has one turn. */

export interface Asked<T> {
  readonly what: T
  resolve(): void
  reject(error: unknown): void
}

/** With more at once the first would wait long for the last. */
const MOST_AT_ONCE = 100

export class Gathered<T> {
  readonly #inTurn: (work: () => Promise<void>) => Promise<void>
  readonly #carryOut: (asked: readonly Asked<T>[]) => Promise<void>
  readonly #waiting: Asked<T>[] = []

  /** `carryOut` answers each of them. */
  constructor(
    inTurn: (work: () => Promise<void>) => Promise<void>,
    carryOut: (asked: readonly Asked<T>[]) => Promise<void>,
  ) {
    this.#inTurn = inTurn
    this.#carryOut = carryOut
  }

  /** Once it is carried out. @throws what it was answered with */
  add(what: T): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ what, resolve, reject })
      if (this.#waiting.length === 1) this.#takeTurn()
    })
  }

  #takeTurn(): void {
    let asked: readonly Asked<T>[] | null = null
    const turn = this.#inTurn(() => {
      asked = this.#waiting.splice(0, MOST_AT_ONCE)
      if (this.#waiting.length > 0) this.#takeTurn()
      return this.#carryOut(asked)
    })
    turn.catch((error: unknown) => {
      for (const one of asked ?? this.#waiting.splice(0)) one.reject(error)
    })
  }
}

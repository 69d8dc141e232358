/**
 * The attempts of one address by number: those that were told, held against the kernel's counter of it, which counts all of
 * them and is read once a minute. What was counted, and is not told after a while, is lost.
 */

/** How far the kernel's counter of a machine has been read. */
export interface Stand {
  /** Where it stood. */
  readonly packets: number
  /** Attempts that were told since then. */
  readonly told: number
}

/** null: it has not been read at all. */
export type StandOf = (source: string) => Stand | null

/** What the kernel counted of an address since it was read before. */
export interface Count {
  readonly attempts: number
  /** Where its counter stands. */
  readonly packets: number
  /** Of the reading, in milliseconds since the epoch. */
  readonly time: number
}

/** Milliseconds that an event may be under way after the kernel has counted it. */
const UNDER_WAY = 5_000
/** Of what was counted, so much must have been told for the details to speak. */
const TOLD_SHARE = 0.1

export class Account {
  #told = 0
  /** By the kernel's count, as far as it has been read. */
  #counted = 0
  #countedAt = Number.POSITIVE_INFINITY
  /** Where its counter stood then; null: nobody knows. */
  #counter: number | null = null
  #lost = 0
  /** Of these, those that were asked for. */
  #taken = 0

  /**
   * Of an address that is watched from now on, so many were told already; what was told may have been counted already,
   * too. Where nobody knows how far the counter has been read (null), it begins with the next reading.
   */
  begin(stand: Stand | null, told: number): void {
    if (stand === null) return
    this.#counter = stand.packets
    this.#counted = told - stand.told
  }

  /** An attempt was told. */
  tell(): void {
    this.#told++
  }

  /** Takes up where the counter stood by what an earlier run knew. Of several, the one that was written last is right. */
  resume(counter: number): void {
    this.#counter = Math.max(this.#counter ?? 0, counter)
  }

  /** Takes where the counter stands since nobody was told. `now` is in milliseconds since the epoch. */
  catchUp({ packets }: Stand, now: number): void {
    this.count(this.grownBy(packets, 0), packets, now - UNDER_WAY)
    this.settle(now)
  }

  /**
   * What the counter has grown by since it was looked at for this account; `otherwise` where nobody knows. One that came
   * back smaller began afresh.
   */
  grownBy(packets: number, otherwise: number): number {
    if (this.#counter === null) return otherwise
    return packets < this.#counter ? packets : packets - this.#counter
  }

  /** The kernel has counted so many more, and its counter stood there at the time, in milliseconds since the epoch. */
  count(attempts: number, packets: number, time: number): void {
    this.settle(time)
    this.#counted += attempts
    this.#countedAt = time
    this.#counter = packets
  }

  /**
   * What was counted, and is not told after a while, is lost. While more is told meanwhile, that is at most underestimated;
   * at rest it is exact.
   */
  settle(now: number): void {
    if (this.#countedAt + UNDER_WAY <= now) this.giveUp()
  }

  /** Nothing of what was counted is waited for any more. */
  giveUp(): void {
    this.#lost = Math.max(this.#lost, this.#counted - this.#told)
  }

  /** How many are lost that were not when it was asked last. */
  takeLost(): number {
    const more = this.#lost - this.#taken
    this.#taken = this.#lost
    return more
  }

  /** Whether what was counted may still be told. */
  get isUnsettled(): boolean {
    return this.#counted > this.#told + this.#lost
  }

  /** By the kernel's count, as far as it has been read. */
  get counted(): number {
    return this.#counted
  }

  /** Whether enough of what was counted was told for the details to speak. */
  get isTold(): boolean {
    return this.#told >= TOLD_SHARE * this.#counted
  }

  /** Where the kernel's counter stands when it has counted all that is known of; null: nobody knows. */
  get standing(): number | null {
    return this.#counter === null ? null : this.#counter + this.#told + this.#lost - this.#counted
  }
}

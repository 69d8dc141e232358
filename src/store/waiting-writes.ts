/** Writes that must not be lost to a full disk: they wait in bounded memory, in their order, until the database takes them. */
import type { DatabaseSync } from 'node:sqlite'
import { inTransaction, isUnwritable } from './database.ts'

export interface WaitingWritesOptions {
  readonly database: DatabaseSync
  /** Once, until it succeeds. */
  readonly onFailed: (error: Error) => void
  /** All of it was written that did not find the memory full. */
  readonly onRecovered: (lost: number) => void
  /** One that would never be written, whatever room there is. */
  readonly onRefused: (error: Error) => void
}

type Work = () => void

/** Of each sort. */
const MOST = 10_000
/** Beyond these, all are tried once a second, and no longer with each that comes. */
const FEW = 100

export class WaitingWrites {
  readonly #options: WaitingWritesOptions
  #waiting: Work[] = []
  /** Of each subject the latest, written after all others. */
  readonly #latest = new Map<string, Work>()
  #failure: Error | null = null
  #lost = 0

  constructor(options: WaitingWritesOptions) {
    this.#options = options
  }

  /** All of the work or nothing of it: now, or as soon as it can be. It takes the place of the latest of its subject. */
  write(subject: string, work: Work): void {
    this.#latest.delete(subject)
    this.#waiting.push(work)
    if (this.#waiting.length > MOST) {
      this.#waiting.shift()
      this.#lost++
    }
    this.#tryNow()
  }

  /** What each subject has come to: where it must wait, only the latest of it does. */
  writeLatest(works: ReadonlyMap<string, Work>): void {
    for (const [subject, work] of works) {
      if (this.#latest.has(subject) || this.#latest.size < MOST) this.#latest.set(subject, work)
      else this.#lost++
    }
    this.#tryNow()
  }

  /** To be called from time to time, and at the end. */
  retry(): void {
    const works = [...this.#waiting, ...this.#latest.values()]
    if (works.length === 0) return
    try {
      this.#run(works)
    } catch (error) {
      if (this.#failure === null) this.#options.onFailed(error as Error)
      this.#failure = error as Error
      return
    }
    this.#waiting = []
    this.#latest.clear()
    if (this.#failure !== null) this.#options.onRecovered(this.#lost)
    this.#failure = null
    this.#lost = 0
  }

  #tryNow(): void {
    if (this.#failure === null || this.#waiting.length + this.#latest.size <= FEW) this.retry()
  }

  /** @throws Error when the database cannot be written */
  #run(works: readonly Work[]): void {
    const { database, onRefused } = this.#options
    try {
      inTransaction(database, () => {
        for (const work of works) work()
      })
    } catch (error) {
      if (isUnwritable(error)) throw error
      // One of them is at fault, and must not keep the others.
      const [first, ...more] = works
      if (first === undefined || more.length === 0) onRefused(error as Error)
      else for (const work of works) this.#run([work])
    }
  }
}

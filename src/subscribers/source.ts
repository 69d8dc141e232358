/** One entry of `subscribers:`: what it knows, and how it is kept up to date. */
import { setImmediate } from 'node:timers/promises'
import type { Prefix } from '../policy/prefix.ts'
import { type Holding, Holdings } from './holdings.ts'
import type { SubscriberSource } from './subscriber-source.ts'

/** Reads what there is to read into holdings. */
export interface Reader {
  /** Folders in which a change is worth a look. */
  folders(): readonly string[]
  /** Looks, and reads what is new. Answers in how many milliseconds to look again where something is being written. */
  look(into: Holdings, faults: FaultLog): Promise<number | null>
}

export interface FaultLog {
  add(file: string, line: number, message: string): void
}

export interface SourceStatus {
  readonly name: string
  readonly type: SubscriberSource['type']
  /** Holdings in memory, of now and from before. */
  readonly entries: number
  /** Records that could not be used, and those that found no room. */
  readonly faults: number
  readonly refused: number
  /** Milliseconds since the epoch; null: never yet. */
  readonly read: number | null
  /** Why it cannot be read; null: it can. */
  readonly failure: string | null
}

export interface SourceOptions {
  readonly name: string
  readonly type: SubscriberSource['type']
  readonly reader: Reader
  readonly maxEntries: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** `file:line: sentence`; the first ones of each look. */
  readonly onFault: (source: string, fault: string) => void
  /** Told once for each reason. */
  readonly onFailed: (source: string, reason: string) => void
  readonly onRead: (source: string, entries: number) => void
}

/** Faults told one by one of each look; a file in another format has as many as it has lines. */
const TOLD_FAULTS = 10

export class Source {
  readonly name: string
  readonly #options: SourceOptions
  #holdings: Holdings
  #faults = 0
  #refusedBefore = 0
  #read: number | null = null
  #failure: string | null = null

  constructor(options: SourceOptions) {
    this.name = options.name
    this.#options = options
    this.#holdings = new Holdings(options.maxEntries)
  }

  folders(): readonly string[] {
    return this.#options.reader.folders()
  }

  /** Never throws. One at a time. */
  async look(): Promise<number | null> {
    const { name, reader, now, onFault, onFailed, onRead } = this.#options
    let told = 0
    const faults: FaultLog = {
      add: (file, line, message) => {
        this.#faults++
        if (++told <= TOLD_FAULTS) onFault(name, `${file}:${line}: ${message}`)
      },
    }
    try {
      const { size } = this.#holdings
      const again = await reader.look(this.#holdings, faults)
      if (this.#read === null || this.#holdings.size !== size) onRead(name, this.#holdings.size)
      this.#read = now()
      this.#failure = this.#isFull()
      return again
    } catch (error) {
      const reason = (error as Error).message
      if (reason !== this.#failure) onFailed(name, reason)
      this.#failure = reason
      return null
    } finally {
      if (told > TOLD_FAULTS) onFault(name, `${told - TOLD_FAULTS} more lines cannot be used`)
    }
  }

  find(address: Prefix, time: number, port: number | null): Holding | null {
    return this.#holdings.find(address, time, port)
  }

  /** Forgets what ended before the time (seconds since the epoch). Not while it looks. */
  async forget(before: number): Promise<void> {
    const work = this.#holdings.without(before)
    for (let step = work.next(); ; step = work.next()) {
      if (step.done === true) {
        if (step.value !== null) {
          this.#refusedBefore += this.#holdings.refused
          this.#holdings = step.value
        }
        return
      }
      await setImmediate()
    }
  }

  status(): SourceStatus {
    const { name, type } = this.#options
    return {
      name,
      type,
      entries: this.#holdings.size,
      faults: this.#faults,
      refused: this.#refusedBefore + this.#holdings.refused,
      read: this.#read,
      failure: this.#failure,
    }
  }

  #isFull(): string | null {
    if (this.#holdings.refused === 0) return null
    const reason = `there are more than ${this.#options.maxEntries} entries; the rest is not known`
    if (reason !== this.#failure) this.#options.onFailed(this.name, reason)
    return reason
  }
}

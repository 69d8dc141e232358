/** Looks every few seconds which exemptions end, and announces each end once, also across restarts. */

import { type Ending, endKey, type Lapse, lapsesDue } from '../../exemptions/lapses.ts'
import type { Origin } from '../../policy/diagnostic.ts'
import { parseTimestamp } from '../../policy/formats.ts'
import type { LapseStore } from '../../store/lapses.ts'
import type { InForce } from '../controller.ts'

/** An exemption's document, as far as people are told of it. */
export interface EndingExemption extends Ending {
  readonly origin: Origin
  readonly owner: string | null
  readonly ticket: string | null
  readonly reason: string | null
  readonly sources: readonly string[]
}

export interface LapseWatchOptions {
  /** What is in force; null: nothing is known of exemptions. */
  readonly inForce: () => Pick<InForce, 'loaded'> | null
  readonly store: LapseStore
  /** Milliseconds before an end at which it is announced. */
  readonly leads: readonly number[]
  readonly now: () => number
  /** Does all that it is given in one transaction. @throws Error when the database cannot be written */
  readonly inTransaction: (work: () => void) => void
  /** Leaves messages with the announcement, in the same transaction. */
  readonly leaveMessages: (lapse: Lapse<EndingExemption>, now: number) => void
  /** It is durable, or, when the database could not be written, said at least. */
  readonly onAnnounced: (lapse: Lapse<EndingExemption>) => void
  readonly onUnwritable: (error: Error) => void
}

const INTERVAL = 5_000
/** After the database could not be written. */
const RETRY = 60_000
/** In one transaction; the rest comes with the next look. */
const MOST_AT_ONCE = 500

export class LapseWatch {
  readonly #options: LapseWatchOptions
  readonly #announced: Map<string, number>
  /** Said in the log while the database could not be written. */
  readonly #said = new Map<string, number>()
  #loaded: InForce['loaded'] | null = null
  #endings: readonly EndingExemption[] = []
  #retryAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | null = null

  constructor(options: LapseWatchOptions) {
    this.#options = options
    this.#announced = options.store.announced()
  }

  start(): void {
    this.look()
    this.#timer = setInterval(() => this.look(), INTERVAL)
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** How many exemptions end within so many milliseconds from now; 0: have ended. */
  ending(within: number): number {
    const now = this.#options.now()
    return this.#current().filter(({ expires }) => {
      const left = expires - now
      return within === 0 ? left <= 0 : left > 0 && left <= within
    }).length
  }

  look(): void {
    const { now, leads, store, inTransaction, leaveMessages, onAnnounced, onUnwritable } = this.#options
    const time = now()
    if (time < this.#retryAt) return
    const due = lapsesDue(this.#current(), this.#announced, time, leads).slice(0, MOST_AT_ONCE)
    if (due.length === 0) return
    try {
      inTransaction(() => {
        for (const lapse of due) {
          store.remember(lapse.exemption, lapse.lead)
          leaveMessages(lapse, time)
        }
      })
      this.#retryAt = Number.NEGATIVE_INFINITY
      for (const { exemption, lead } of due) this.#announced.set(endKey(exemption), lead)
    } catch (error) {
      this.#retryAt = time + RETRY
      onUnwritable(error as Error)
    }
    for (const lapse of due) {
      const key = endKey(lapse.exemption)
      if (this.#said.get(key) !== lapse.lead) onAnnounced(lapse)
      if (this.#retryAt > time) this.#said.set(key, lapse.lead)
      else this.#said.delete(key)
    }
  }

  /** Forgets ends before the time whose exemptions are gone, or end at another time now. */
  prune(before: number): void {
    if (this.#options.inForce() === null) return
    const current = new Set(this.#current().map(endKey))
    for (const ending of this.#options.store.endedBefore(before)) {
      if (current.has(endKey(ending))) continue
      this.#options.store.forget(ending)
      this.#announced.delete(endKey(ending))
    }
  }

  #current(): readonly EndingExemption[] {
    const loaded = this.#options.inForce()?.loaded ?? null
    if (loaded !== this.#loaded) {
      this.#loaded = loaded
      this.#endings = loaded === null ? [] : endingsOf(loaded)
    }
    return this.#endings
  }
}

/** The exemptions with an end. The model has no owner, ticket or reason, for no packet depends on them. */
export function endingsOf({ documents }: Pick<InForce['loaded'], 'documents'>): EndingExemption[] {
  return documents.flatMap(({ document, source }) => {
    if (document.kind !== 'exemption' || document.expires === undefined) return []
    const expires = parseTimestamp(document.expires)
    if (expires === null) return []
    const { name, owner = null, ticket = null, reason = null, sources } = document
    return [{ name, expires, origin: source.origin, owner, ticket, reason, sources }]
  })
}

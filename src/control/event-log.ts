/**
 * What happens, as it happens, for whoever listens: the latest events are kept, so that a listener that was away for a
 * moment goes on where it was. Nobody is waited for.
 */

export const EVENT_TYPES = [
  'attempt',
  'attempts-skipped',
  'incident',
  'apply',
  'confirmation',
  'drift',
  'exemption',
  'exemption-request',
  'history',
  'preflight',
] as const

export type EventType = (typeof EVENT_TYPES)[number]

export interface Event {
  /** Grows from event to event, also over a restart of the service: a start and a number. */
  readonly id: string
  readonly type: EventType
  /** JSON on one line. */
  readonly data: string
}

export interface EventLogOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly maxEvents?: number
  readonly maxBytes?: number
  /** Attempts passed on in a second; the rest is told as a number. */
  readonly maxAttempts?: number
}

/** Where one listener is. */
export interface Cursor {
  /** The next event; `gap`: there were others before it that are no longer kept; null: there is none yet. */
  next(): Event | 'gap' | null
}

const ID = /^(\d{1,15})-(\d{1,15})$/

export class EventLog {
  readonly #now: () => number
  readonly #maxEvents: number
  readonly #maxBytes: number
  readonly #maxAttempts: number
  readonly #start: number
  readonly #listeners = new Set<() => void>()
  #kept: Event[] = []
  /** Of the events kept, those before it were dropped. */
  #first = 0
  #bytes = 0
  #number = 0
  #second = 0
  #attempts = 0

  constructor({ now, maxEvents = 10_000, maxBytes = 8_000_000, maxAttempts = 200 }: EventLogOptions) {
    this.#now = now
    this.#maxEvents = maxEvents
    this.#maxBytes = maxBytes
    this.#maxAttempts = maxAttempts
    this.#start = now()
  }

  /** Keeps an event and passes it on; its time is added. */
  publish(type: EventType, data: Readonly<Record<string, unknown>>): void {
    const now = this.#now()
    const id = `${this.#start}-${++this.#number}`
    const event = { id, type, data: JSON.stringify({ time: new Date(now).toISOString(), ...data }) }
    this.#kept.push(event)
    this.#bytes += event.data.length
    while (this.#kept.length - this.#first > this.#maxEvents || this.#bytes > this.#maxBytes) this.#drop()
    for (const listener of this.#listeners) listener()
  }

  /** The same for an attempt, of which there may be very many. */
  publishAttempt(data: () => Readonly<Record<string, unknown>>): void {
    this.tick()
    if (++this.#attempts <= this.#maxAttempts) this.publish('attempt', data())
  }

  /** Tells how many attempts were not passed on, once their second is over. */
  tick(): void {
    const second = Math.floor(this.#now() / 1_000)
    if (second === this.#second) return
    const skipped = this.#attempts - this.#maxAttempts
    this.#second = second
    this.#attempts = 0
    if (skipped > 0) this.publish('attempts-skipped', { count: skipped })
  }

  /**
   * Reads on after the event of that id, or after the latest; where the id is not known (any more), from the oldest that
   * is kept. Whoever is slow falls behind, and finds a gap at last: nothing is stored for anybody.
   */
  read(after: string | null): Cursor {
    const [, start, number] = ID.exec(after ?? `${this.#start}-${this.#number}`) ?? []
    const isKnown = Number(start) === this.#start && Number(number) <= this.#number
    let at = isKnown ? Number(number) : Number.NEGATIVE_INFINITY
    return {
      next: () => {
        const oldest = this.#number - (this.#kept.length - this.#first)
        if (at < oldest) {
          at = oldest
          return 'gap'
        }
        const event = this.#kept[this.#first + at - oldest]
        if (event === undefined) return null
        at++
        return event
      },
    }
  }

  /** Calls back when there is a new event; answers how to stop it. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #drop(): void {
    this.#bytes -= this.#kept[this.#first++]?.data.length ?? 0
    if (this.#first <= this.#maxEvents) return
    this.#kept = this.#kept.slice(this.#first)
    this.#first = 0
  }
}

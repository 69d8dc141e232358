/**
 * Carries the messages of one channel to its receiver, several at once, until each has arrived or is given up. Those of
 * one incident never wait here together, so their order is that of the plan. It knows nothing of other channels: a dead
 * or slow one delays nobody else.
 */
import type { AlertMessages, StoredMessage } from '../../store/alert-messages.ts'
import { type Channel, PermanentError, RetryableError } from '../channel.ts'
import type { Message } from '../message.ts'
import type { Handling } from '../planning/handling.ts'
import { pauseAfter } from './back-off.ts'

export interface CarrierOptions {
  readonly channel: Channel
  readonly handling: Pick<Handling, 'giveUp' | 'timeout' | 'parallel'>
  readonly messages: AlertMessages
  readonly compose: (stored: StoredMessage) => Message
  readonly now: () => number
  readonly random: () => number
  /** It has arrived, or is given up: news of the same incidents may follow. */
  readonly onSettled: (message: StoredMessage, outcome: 'sent' | 'dead', error: Error | null) => void
  readonly onFailed: (message: StoredMessage, error: Error, retryIn: number) => void
  /** The database cannot be written. */
  readonly onUnwritable: (error: Error) => void
}

interface UnderWay {
  readonly carried: Promise<void>
  readonly incidents: ReadonlySet<string>
}

export interface Health {
  /** Since a message arrived last. */
  readonly failures: number
  /** Until when nothing is tried, in milliseconds since the epoch; null: it is being tried. */
  readonly pausedUntil: number | null
  /** Of the latest failure; null: there was none since. */
  readonly error: string | null
}

/** So many failures in a row are the receiver's, not a message's: then one message at a time tries it. */
const SHAKY = 3
/** Of what is due, so many are looked at for one whose incidents are not under way. */
const LOOK_AT = 32
/** Milliseconds after the database could not be written. */
const RETRY = 1_000
/** Milliseconds that messages under way have when the service stops. */
const FAREWELL = 2_000

export class Carrier {
  readonly #options: CarrierOptions
  readonly #underWay = new Map<number, UnderWay>()
  readonly #stopping = new AbortController()
  #failures = 0
  #pausedUntil = 0
  #error = ''
  #timer: NodeJS.Timeout | null = null

  constructor(options: CarrierOptions) {
    this.#options = options
  }

  /** Failures since a message arrived last, and until when nothing is tried (milliseconds since the epoch). */
  get health(): Health {
    const isPaused = this.#pausedUntil > this.#options.now()
    return {
      failures: this.#failures,
      pausedUntil: isPaused ? this.#pausedUntil : null,
      error: this.#failures === 0 ? null : this.#error,
    }
  }

  /** There may be something to carry. */
  wake(): void {
    if (this.#stopping.signal.aborted) return
    try {
      this.#carryDue()
    } catch (error) {
      this.#options.onUnwritable(error as Error)
      this.#wakeIn(RETRY)
    }
  }

  /** The receiver is known to answer: there is no reason to wait. */
  encourage(): void {
    this.#failures = 0
    this.#pausedUntil = 0
    this.wake()
  }

  /** What is under way either arrives now, or is carried again at the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    if (this.#timer !== null) clearTimeout(this.#timer)
    const farewell = new Promise<void>((resolve) => setTimeout(resolve, FAREWELL).unref())
    await Promise.race([Promise.all([...this.#underWay.values()].map(({ carried }) => carried)), farewell])
  }

  #carryDue(): void {
    const { channel, messages, handling, now } = this.#options
    const time = now()
    if (time < this.#pausedUntil) {
      this.#wakeIn(this.#pausedUntil - time)
      return
    }
    const atOnce = this.#failures >= SHAKY ? 1 : handling.parallel
    if (this.#underWay.size >= atOnce) return
    for (const message of messages.due(channel.name, time, LOOK_AT + this.#underWay.size)) {
      if (this.#underWay.size >= atOnce) break
      if (this.#underWay.has(message.id) || this.#isUnderWay(message.incidents)) continue
      const carried = this.#carry(message).finally(() => {
        this.#underWay.delete(message.id)
        this.wake()
      })
      this.#underWay.set(message.id, { carried, incidents: new Set(message.incidents) })
    }
    const next = messages.nextTry(channel.name, time)
    if (next !== null) this.#wakeIn(next - time)
  }

  /** Messages that are sent once more, of one incident, go one after the other. */
  #isUnderWay(incidents: readonly string[]): boolean {
    const others = [...this.#underWay.values()]
    return incidents.some((incident) => others.some((other) => other.incidents.has(incident)))
  }

  async #carry(message: StoredMessage): Promise<void> {
    const { messages, now, onSettled } = this.#options
    const error = await this.#try(message)
    if (error === null) {
      this.#failures = 0
      this.#pausedUntil = 0
      await this.#write(() => messages.settle(message.id, 'sent', now(), null))
      onSettled(message, 'sent', null)
      return
    }
    // Broken off by ourselves: it was no fault of the receiver.
    if (this.#stopping.signal.aborted) return
    await this.#failed(message, error)
  }

  async #failed(message: StoredMessage, error: Error): Promise<void> {
    const { handling, messages, now, random, onSettled, onFailed } = this.#options
    const isPermanent = error instanceof PermanentError
    if (!isPermanent) this.#failures++
    this.#error = error.message
    if (isPermanent || now() - message.created >= handling.giveUp) {
      await this.#write(() => messages.settle(message.id, 'dead', now(), error.message))
      onSettled(message, 'dead', error)
      return
    }
    const asked = error instanceof RetryableError && error.retryAfter !== null ? error.retryAfter * 1_000 : 0
    const retryIn = Math.max(asked, pauseAfter(message.tries + 1, random))
    if (asked > 0) this.#pausedUntil = Math.max(this.#pausedUntil, now() + asked)
    else if (this.#failures >= SHAKY) this.#pausedUntil = now() + pauseAfter(this.#failures, random)
    await this.#write(() => messages.postpone(message.id, now() + retryIn, error.message))
    onFailed(message, error, retryIn)
  }

  /** null: it has arrived. A channel that hangs and will not be stopped holds up nobody. */
  async #try(message: StoredMessage): Promise<Error | null> {
    const { channel, compose, handling } = this.#options
    const tooLong = AbortSignal.timeout(handling.timeout)
    const signal = AbortSignal.any([this.#stopping.signal, tooLong])
    const { promise: ended, reject } = Promise.withResolvers<never>()
    const onAbort = () => reject(new RetryableError(`no answer within ${handling.timeout / 1_000} s`))
    signal.addEventListener('abort', onAbort)
    try {
      await Promise.race([channel.deliver(compose(message), signal), ended])
      return null
    } catch (error) {
      if (tooLong.aborted) return new RetryableError(`no answer within ${handling.timeout / 1_000} s`)
      return error instanceof Error ? error : new Error(String(error))
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** What has happened must be written down, however long that takes: else it would happen again. */
  async #write(work: () => void): Promise<void> {
    for (;;) {
      try {
        work()
        return
      } catch (error) {
        if (this.#stopping.signal.aborted) return
        this.#options.onUnwritable(error as Error)
        await new Promise((resolve) => setTimeout(resolve, RETRY))
      }
    }
  }

  #wakeIn(milliseconds: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    // A timer of Node.js is for 24 days at most, and a clock may be set.
    this.#timer = setTimeout(() => this.wake(), Math.min(Math.max(milliseconds, 1), 60_000))
  }
}

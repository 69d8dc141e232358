/** One channel with all that belongs to it: the desk that makes its messages, and the carrier that brings them. */
import type { DatabaseSync } from 'node:sqlite'
import type { AlertMessages, StoredMessage } from '../store/alert-messages.ts'
import type { AlertQueue } from '../store/alert-queue.ts'
import type { AlertSilences } from '../store/alert-silences.ts'
import { inTransaction } from '../store/database.ts'
import type { ChannelConfig } from './alerts-config.ts'
import type { Channel } from './channel.ts'
import type { AlertsLog } from './log.ts'
import type { Message } from './message.ts'
import { Desk } from './planning/desk.ts'
import type { Silences } from './planning/silences.ts'
import { Carrier } from './transport/carrier.ts'

export interface LineOptions {
  readonly channel: Channel
  readonly config: ChannelConfig
  readonly gateway: string
  readonly database: DatabaseSync
  readonly queue: AlertQueue
  readonly messages: AlertMessages
  readonly silences: Silences
  /** Counts what silences have swallowed. */
  readonly silenced: AlertSilences
  readonly compose: (stored: StoredMessage) => Message
  readonly now: () => number
  readonly random: () => number
  readonly log: AlertsLog
}

export interface ChannelStatus {
  readonly name: string
  readonly type: string
  /** News that waits, and how much of it is held back. */
  readonly queued: number
  readonly held: number
  /** Messages that have not arrived yet. */
  readonly waiting: number
  readonly dead: number
  /** News thrown away for want of room, ever. */
  readonly dropped: number
  /** Failures since a message arrived last. */
  readonly failures: number
  /** Milliseconds since the epoch; null: it is being tried. */
  readonly pausedUntil: number | null
  /** Why it failed the last time; null: a message has arrived since. */
  readonly error: string | null
}

/** How a test of a channel went. */
export type Tested =
  | { readonly delivered: true; readonly milliseconds: number }
  | { readonly delivered: false; readonly milliseconds: number; readonly error: string }

export class Line {
  readonly config: ChannelConfig
  readonly #options: LineOptions
  readonly #desk: Desk
  readonly #carrier: Carrier

  constructor(options: LineOptions) {
    this.#options = options
    this.config = options.config
    this.#carrier = this.#openCarrier()
    this.#desk = this.#openDesk()
  }

  /** Takes up what an earlier run has left. */
  start(): void {
    this.#desk.wake()
    this.#carrier.wake()
  }

  /** There is news. */
  wake(): void {
    this.#desk.wake()
  }

  stopDesk(): void {
    this.#desk.stop()
  }

  /** What is under way either arrives now, or is carried again at the next start. */
  async stopCarrier(): Promise<void> {
    await this.#carrier.stop()
  }

  async close(): Promise<void> {
    await this.#options.channel.close?.()
  }

  /** Messages of it wait once more. */
  resent(messages: readonly Pick<StoredMessage, 'id' | 'incidents'>[]): void {
    for (const { id, incidents } of messages) this.#desk.expect(id, incidents)
    this.#carrier.wake()
  }

  /** Sends a message at once, past everything that waits. */
  async test(message: Message): Promise<Tested> {
    const started = performance.now()
    const milliseconds = () => Math.round(performance.now() - started)
    try {
      await this.#deliverInTime(message)
      this.#carrier.encourage()
      return { delivered: true, milliseconds: milliseconds() }
    } catch (error) {
      return { delivered: false, milliseconds: milliseconds(), error: (error as Error).message }
    }
  }

  status(): ChannelStatus {
    const { messages, queue } = this.#options
    const { name, type } = this.config
    const { news, held, messages: waiting } = this.#desk.waiting
    const counts = { queued: news, held, waiting, dead: messages.count(name, 'dead') }
    return { name, type, ...counts, dropped: queue.dropped(name).all, ...this.#carrier.health }
  }

  #openCarrier(): Carrier {
    const { channel, config, messages, compose, now, random, log } = this.#options
    const { name, handling } = config
    return new Carrier({
      channel,
      handling,
      messages,
      compose,
      now,
      random,
      onSettled: (message, outcome, error) => {
        this.#desk.settled(message.id)
        if (error === null) log.sent(name, now() - message.time)
        else if (outcome === 'dead') log.dead(name, message.id, error)
      },
      onFailed: (_, error, retryIn) => log.failed(name, error, retryIn),
      onUnwritable: (error) => log.unwritable(error),
    })
  }

  #openDesk(): Desk {
    const { config, gateway, database, queue, messages, silences, silenced, now, log } = this.#options
    const { name, handling } = config
    return new Desk({
      channel: name,
      gateway,
      handling,
      queue,
      messages,
      inTransaction: (work) => inTransaction(database, work),
      silenceOf: (facts, time) => silences.holding(name, facts, time),
      countSilenced: (silence, news) => silenced.count(silence, news),
      now,
      onMessages: () => this.#carrier.wake(),
      onDropped: (news) => log.dropped(name, news),
      onUnwritable: (error) => log.unwritable(error),
    })
  }

  async #deliverInTime(message: Message): Promise<void> {
    const { channel, config } = this.#options
    const { timeout } = config.handling
    const signal = AbortSignal.timeout(timeout)
    const { promise: tooLate, reject } = Promise.withResolvers<never>()
    signal.addEventListener('abort', () => reject(new Error(`no answer within ${timeout / 1_000} s`)))
    await Promise.race([channel.deliver(message, signal), tooLate])
  }
}

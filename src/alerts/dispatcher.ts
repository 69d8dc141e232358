/**
 * Carries messages from the outbox to their channels: each channel by itself and in order, so that a dead one delays
 * nobody else; a message leaves the outbox only when it has arrived.
 */
import type { Outbox, OutboxEntry } from '../store/outbox.ts'
import type { Channel } from './channel.ts'
import type { Message } from './message.ts'

export interface DispatcherOptions {
  readonly outbox: Outbox
  readonly channels: readonly Channel[]
  readonly onSent: (channel: string) => void
  readonly onFailed: (channel: string, error: Error, retryIn: number) => void
}

const TIMEOUT = 10_000
const FIRST_RETRY = 500
const LONGEST_RETRY = 300_000

export class Dispatcher {
  readonly #options: DispatcherOptions
  readonly #busy = new Set<string>()
  readonly #timers = new Map<string, NodeJS.Timeout>()
  #stopped = false

  constructor(options: DispatcherOptions) {
    this.#options = options
  }

  /** There may be something to send. */
  wake(): void {
    for (const channel of this.#options.channels) void this.#work(channel)
  }

  stop(): void {
    this.#stopped = true
    for (const timer of this.#timers.values()) clearTimeout(timer)
  }

  async #work(channel: Channel): Promise<void> {
    const { outbox, onSent, onFailed } = this.#options
    if (this.#busy.has(channel.name)) return
    this.#busy.add(channel.name)
    try {
      for (
        let entry = outbox.next(channel.name);
        entry !== null && !this.#stopped;
        entry = outbox.next(channel.name)
      ) {
        const wait = entry.nextTry - Date.now()
        if (wait > 0) {
          this.#later(channel, wait)
          return
        }
        try {
          await channel.deliver(messageOf(entry), AbortSignal.timeout(TIMEOUT))
        } catch (error) {
          if (this.#stopped) return
          const retryIn = pause(entry.tries)
          outbox.postpone(entry.id, Date.now() + retryIn)
          onFailed(channel.name, error as Error, retryIn)
          continue
        }
        if (this.#stopped) return
        outbox.remove(entry.id)
        onSent(channel.name)
      }
    } finally {
      this.#busy.delete(channel.name)
    }
  }

  #later(channel: Channel, wait: number): void {
    clearTimeout(this.#timers.get(channel.name))
    this.#timers.set(
      channel.name,
      setTimeout(() => void this.#work(channel), wait),
    )
  }
}

/** Doubles with each try; a random part keeps many gateways from knocking at the same moment. */
function pause(tries: number): number {
  const longest = Math.min(FIRST_RETRY * 2 ** tries, LONGEST_RETRY)
  return Math.round(longest * (0.5 + Math.random() / 2))
}

function messageOf({ key, body }: OutboxEntry): Message {
  return { key, body: JSON.parse(body) } as Message
}

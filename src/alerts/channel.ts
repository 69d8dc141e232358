/**
 * What a channel is, to those who use it and to those who write one: a file in channels/, named after its type, and a
 * line in channel-types.ts.
 */
import type { Static, TObject, TProperties } from 'typebox'
import type { Message } from './message.ts'

export interface Channel {
  readonly name: string
  readonly type: string
  /**
   * Hands over one message, and fulfils when the receiver has taken it. The same message may come twice, with the same
   * key. Several may be under way at once.
   * @throws PermanentError when it is no use to try again, RetryableError (or any other error) when it is
   */
  deliver(message: Message, signal: AbortSignal): Promise<void>
  /** The service runs, and there is more to work with. Whoever only tries a channel does not call it. */
  begin?(surroundings: Surroundings): void
  /** Lets go of connections. */
  close?(): Promise<void>
}

/** What a channel of the running service may use. */
export interface Surroundings {
  readonly memory: Memory
  /** The latest attempts of a machine, or of one of its users, as they were told; empty: none are known. */
  attempts(source: string, limit: number, uid?: number): readonly Attempt[]
  /** For what a channel does of its own accord, and nobody waits for. */
  onFailed(error: Error): void
}

/** What a channel must still know after a restart; small, and its own. */
export interface Memory {
  get(key: string): string | null
  all(): ReadonlyMap<string, string>
  /** @throws Error when it cannot be written */
  put(key: string, value: string): void
  remove(key: string): void
}

/** One attempt, with what RFC 6302 wants to be known of it. */
export interface Attempt {
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
}

/** Not now: the receiver is away, slow, or overloaded. */
export class RetryableError extends Error {
  /** Seconds for which the receiver asked not to be tried again; null: it did not say. */
  readonly retryAfter: number | null

  constructor(message: string, retryAfter: number | null = null) {
    super(message)
    this.retryAfter = retryAfter
  }
}

/** Never: the receiver understood, and refused this message. */
export class PermanentError extends Error {}

/** How news becomes messages of a channel, where the operator does not say otherwise. */
export interface HandlingDefaults {
  /** Messages for each minute, as `10/minute`; `none`: each piece of news is a message of its own. */
  readonly limit?: string
  /** How often it is said that an incident lasts, as `24h`; `never`. */
  readonly remind?: string
  /** Messages under way at once. */
  readonly parallel?: number
}

/** What a channel is opened with, beside its configuration. */
export interface Means {
  readonly gateway: string
  /** The content of a secret's file, without white space at its ends. @throws ConfigError when it cannot be read */
  readSecret(path: string): Promise<string>
}

export interface ChannelType<F extends TProperties = TProperties> {
  readonly type: string
  /** Fields of the configuration beside those that every channel has (src/config/alerts.ts). */
  readonly fields: F
  readonly defaults?: HandlingDefaults
  /** What its fields say together that they must not; null when they are sound. For what a schema cannot say. */
  fault?(config: Static<TObject<F>>): string | null
  /** Reads secrets, once, while the service may still read them; touches no network. @throws ConfigError */
  open(config: Static<TObject<F>> & { readonly name: string }, means: Means): Promise<Channel>
}

/** A channel type, checked against its own fields, and then forgotten for the table of all of them. */
export function channelType<F extends TProperties>(type: ChannelType<F>): ChannelType {
  return type as unknown as ChannelType
}

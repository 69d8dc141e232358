/**
 * Answers that many ask for again and again, such as the status: made once, and the same bytes given out until something
 * has happened, or until they are old. Whoever has changed something finds it in what it asks for next.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { EventLog } from '../control/event-log.ts'
import { namesOne, tagOf } from './etag.ts'

export interface KeptAnswer {
  /** JSON. What is long is kept as bytes, so that nobody encodes it each time; what is short costs less as text. */
  readonly body: string | Buffer
  /** RFC 9110 §8.8.3, with its quotation marks; strong: the same bytes. */
  readonly etag: string
}

interface Kept extends KeptAnswer {
  /** Milliseconds on the clock. */
  readonly made: number
}

export interface KeptAnswersOptions {
  readonly events: Pick<EventLog, 'read' | 'listen'>
  /** A clock in milliseconds that never goes back. */
  readonly now: () => number
}

/** Milliseconds: what grows without being told as an event, such as counters, is no older. */
const LIFETIME = 100
/** Answers, and bytes of them all. */
const MOST = 64
const MOST_BYTES = 4_000_000
/** From so many characters on an answer is kept as bytes. */
const LONG = 4_096

export class KeptAnswers {
  readonly #now: () => number
  readonly #kept = new Map<string, Kept>()
  #size = 0

  constructor({ events, now }: KeptAnswersOptions) {
    this.#now = now
    const cursor = events.read(null)
    events.listen(() => {
      for (let event = cursor.next(); event !== null; event = cursor.next()) {
        // There may be hundreds a second, and they count up numbers that are a moment old anyway.
        if (event === 'gap' || event.type !== 'attempt') this.forget()
      }
    })
  }

  /** The answer of that key, made by `make` where none is kept. It must not depend on who asks. */
  get(key: string, make: () => object): KeptAnswer {
    const known = this.#kept.get(key)
    if (known !== undefined && this.#now() - known.made < LIFETIME) return known
    const text = JSON.stringify(make())
    const body = text.length < LONG ? text : Buffer.from(text)
    const made = { body, etag: tagOf(text), made: this.#now() }
    this.#keep(key, made)
    return made
  }

  /** Something has changed. */
  forget(): void {
    this.#kept.clear()
    this.#size = 0
  }

  #keep(key: string, answer: Kept): void {
    this.#size += answer.body.length - (this.#kept.get(key)?.body.length ?? 0)
    this.#kept.set(key, answer)
    if (this.#kept.size > MOST || this.#size > MOST_BYTES) this.forget()
  }
}

/** Answers what is kept, or 304 where the client has it. */
export function sendKept(
  { headers }: FastifyRequest,
  reply: FastifyReply,
  { body, etag }: KeptAnswer,
): FastifyReply {
  reply.header('etag', etag).header('cache-control', 'no-cache')
  if (headers['if-none-match'] !== undefined && namesOne(headers['if-none-match'], etag))
    return reply.code(304).send()
  return reply.header('content-type', 'application/json; charset=utf-8').send(body)
}

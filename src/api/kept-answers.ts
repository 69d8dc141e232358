/**
 * Answers that many ask for again and again, such as the status: made once, and the same bytes given out until something
 * has happened, or until they are old. Whoever has changed something finds it in what it asks for next.
 */
import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import type { EventLog } from '../control/event-log.ts'
import { takesJson } from './accept.ts'
import { namesOne, tagOf } from './etag.ts'

export interface KeptAnswer {
  /** JSON. What is long is kept as bytes, so that nobody encodes it each time; what is short costs less as text. */
  readonly body: string | Buffer
  /** RFC 9110 §8.8.3, with its quotation marks; strong: the same bytes. */
  readonly etag: string
  /** Bytes of it. */
  readonly length: string
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
const JSON_TYPE = 'application/json; charset=utf-8'
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

  /** What is kept of that address, and is not too old. */
  find(url: string): KeptAnswer | null {
    const known = this.#kept.get(url)
    return known !== undefined && this.#now() - known.made < LIFETIME ? known : null
  }

  /** The answer of that address, made by `make` where none is kept. It must not depend on who asks. */
  get(url: string, make: () => object): KeptAnswer {
    const known = this.find(url)
    if (known !== null) return known
    const text = JSON.stringify(make())
    const body = text.length < LONG ? text : Buffer.from(text)
    const made = { body, etag: tagOf(text), length: String(Buffer.byteLength(body)), made: this.#now() }
    this.#keep(url, made)
    return made
  }

  /** Something has changed. */
  forget(): void {
    this.#kept.clear()
    this.#size = 0
  }

  #keep(url: string, answer: Kept): void {
    this.#size += answer.body.length - (this.#kept.get(url)?.body.length ?? 0)
    this.#kept.set(url, answer)
    if (this.#kept.size > MOST || this.#size > MOST_BYTES) this.forget()
  }
}

/**
 * Of a route whose answers are kept: gives one out as soon as its caller is let in. That address was looked at when the answer
 * was made, and there is nothing else to look at in a request that makes no conditions.
 */
export function answerAtOnce(kept: KeptAnswers): onRequestHookHandler {
  return (request, reply, done) => {
    const { accept = '*/*', 'if-none-match': condition } = request.headers
    const known = request.method === 'GET' && condition === undefined ? kept.find(request.url) : null
    if (known === null || !takesJson(accept)) return done()
    describe(reply, known).header('content-type', JSON_TYPE).header('content-length', known.length)
    reply.hijack()
    reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders).end(known.body)
  }
}

/** Answers what is kept, or made now; 304 where the client has it. */
export function sendKept(
  { headers, url }: FastifyRequest,
  reply: FastifyReply,
  kept: KeptAnswers,
  make: () => object,
): FastifyReply {
  const answer = kept.get(url, make)
  describe(reply, answer)
  if (headers['if-none-match'] !== undefined && namesOne(headers['if-none-match'], answer.etag))
    return reply.code(304).send()
  return reply.header('content-type', JSON_TYPE).send(answer.body)
}

function describe(reply: FastifyReply, { etag }: KeptAnswer): FastifyReply {
  return reply.header('etag', etag).header('cache-control', 'no-cache')
}

/**
 * Answers that many ask for again and again, such as the status: made once, and the same bytes given out until something
 * has happened, or until they are old. Whoever has changed something finds it in what it asks for next.
 */
import type { FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import type { EventLog } from '../../control/event-log.ts'
import { takesJson } from './accept.ts'
import { tagOf } from './etag.ts'
import { isKnown } from './preconditions.ts'

export interface KeptAnswer {
  /** JSON. What is long is kept as bytes, so that nobody encodes it each time; what is short costs less as text. */
  readonly body: string | Buffer
  /** RFC 9110 §8.8.3, with its quotation marks; strong: the same bytes. */
  readonly etag: string
  /** Its headers, names and values in turn. */
  readonly headers: readonly string[]
}

/** Milliseconds: what grows without being told as an event, such as counters, is no older. */
const LIFETIME = 100
/** Answers, and bytes of them all. */
const MOST = 64
const MOST_BYTES = 4_000_000
const CACHING = ['cache-control', 'no-cache'] as const
const JSON_TYPE = 'application/json; charset=utf-8'
/** From so many characters on an answer is kept as bytes. */
const LONG = 4_096

export class KeptAnswers {
  readonly #kept = new Map<string, KeptAnswer>()
  #size = 0
  /** While it runs, everything is forgotten at its end. */
  #timer: NodeJS.Timeout | null = null

  constructor(events: Pick<EventLog, 'read' | 'listen'>) {
    const cursor = events.read(null)
    events.listen(() => {
      for (let event = cursor.next(); event !== null; event = cursor.next()) {
        // There may be hundreds a second, and they count up numbers that are a moment old anyway.
        if (event === 'gap' || event.type !== 'attempt') this.forget()
      }
    })
  }

  /** What is kept of that address. */
  find(url: string): KeptAnswer | null {
    return this.#kept.get(url) ?? null
  }

  /** The answer of that address, made by `make` where none is kept. It must not depend on who asks. */
  get(url: string, make: () => object): KeptAnswer {
    const known = this.find(url)
    if (known !== null) return known
    const text = JSON.stringify(make())
    const body = text.length < LONG ? text : Buffer.from(text)
    const etag = tagOf(text)
    const length = String(Buffer.byteLength(body))
    const headers = [...CACHING, 'etag', etag, 'content-type', JSON_TYPE, 'content-length', length]
    const made = { body, etag, headers }
    this.#keep(url, made)
    return made
  }

  /** Something has changed. */
  forget(): void {
    this.#kept.clear()
    this.#size = 0
  }

  #keep(url: string, answer: KeptAnswer): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.forget()
    }, LIFETIME).unref()
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
    const { accept = '*/*', 'if-none-match': version, 'if-match': expected } = request.headers
    const isPlain = request.method === 'GET' && version === undefined && expected === undefined
    const known = isPlain ? kept.find(request.url) : null
    if (known === null || !takesJson(accept)) return done()
    reply.takeOver(known.headers).end(known.body)
  }
}

/** Answers what is kept, or made now; 304 where the client has it. */
export function sendKept(
  request: FastifyRequest,
  reply: FastifyReply,
  kept: KeptAnswers,
  make: () => object,
): FastifyReply {
  const answer = kept.get(request.url, make)
  reply.header(...CACHING)
  if (isKnown(request, reply, answer.etag)) return reply.code(304).send()
  return reply.header('content-type', JSON_TYPE).send(answer.body)
}

/** `Idempotency-Key`: a change that is asked for again is answered as before, and not made again. */
import { createHash } from 'node:crypto'
import type { FastifyRequest, onSendAsyncHookHandler, preHandlerAsyncHookHandler } from 'fastify'
import type { AnswerStore, StoredAnswer } from '../../store/idempotency.ts'
import type { Api } from '../route.ts'
import { hookChanges } from './change-hooks.ts'
import { ApiError } from './problem.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Fields of an answer that are told once and never stored. */
    readonly secrets?: readonly string[]
  }
  interface FastifyRequest {
    /** The key under which the answer will be kept. */
    idempotency: { readonly caller: string; readonly key: string; readonly fingerprint: string } | null
  }
}

const FORM = /^[\x21-\x7e]{1,200}$/
/** What of an answer's head is part of it. */
const HEADERS = ['content-type', 'etag', 'location'] as const

export function answerRepeats(app: Api, answers: AnswerStore): void {
  const underWay = new Set<string>()
  app.decorateRequest('idempotency', null)

  const preHandler: preHandlerAsyncHookHandler = async (request, reply) => {
    const given = request.headers['idempotency-key']
    const { caller } = request
    if (given === undefined || request.identity === null) return
    if (typeof given !== 'string' || !FORM.test(given))
      throw new ApiError('bad-request', 'Idempotency-Key must be up to 200 visible ASCII characters')
    // What is stored of a key does not tell the key.
    const key = createHash('sha256').update(given).digest('base64url')
    const fingerprint = fingerprintOf(request)
    const known = answers.find(caller.name, key, Date.now())
    if (known !== null) {
      if (known.fingerprint !== fingerprint)
        throw new ApiError('idempotency-key-reused', 'this Idempotency-Key was used for another request')
      for (const [name, value] of Object.entries(known.headers)) reply.header(name, value)
      return reply.code(known.status).header('idempotency-replayed', 'true').send(known.body)
    }
    const id = `${caller.name} ${key}`
    if (underWay.has(id))
      throw new ApiError('request-in-progress', 'the request with this Idempotency-Key is still under way')
    underWay.add(id)
    reply.raw.once('close', () => underWay.delete(id))
    request.idempotency = { caller: caller.name, key, fingerprint }
    return undefined
  }

  // Kept before it is sent. What failed has changed nothing, so that it may be tried again.
  const onSend: onSendAsyncHookHandler = async (request, reply, payload) => {
    const { idempotency } = request
    if (idempotency === null || reply.statusCode >= 300) return payload
    const headers: Record<string, string> = {}
    for (const name of HEADERS) {
      const value = reply.getHeader(name)
      if (value !== undefined) headers[name] = String(value)
    }
    const body = withoutSecrets(payload, request.routeOptions.config.secrets ?? [])
    const answer: StoredAnswer = {
      fingerprint: idempotency.fingerprint,
      status: reply.statusCode,
      headers,
      body,
    }
    try {
      answers.keep(idempotency.caller, idempotency.key, answer, Date.now())
    } catch (error) {
      request.log.error(
        { reqId: request.id, reason: (error as Error).message },
        'an answer could not be kept for its Idempotency-Key',
      )
    }
    return payload
  }

  hookChanges(app, { preHandler, onSend })
}

function withoutSecrets(payload: unknown, secrets: readonly string[]): string {
  const text = typeof payload === 'string' ? payload : ''
  if (secrets.length === 0) return text
  return JSON.stringify(JSON.parse(text), (name, value: unknown) => (secrets.includes(name) ? null : value))
}

function fingerprintOf({ method, url, body, headers }: FastifyRequest): string {
  const about = [method, url, body ?? null, headers['if-match'] ?? null, headers['if-none-match'] ?? null]
  return createHash('sha256').update(JSON.stringify(about)).digest('base64url')
}

/** Whose request it is, and by which id it is found again in logs. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Caller } from '../control/caller.ts'

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller
  }
}

/** What a client may call its request: it goes into logs and histories. */
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,64}$/

/** The client's own `x-request-id`, where it has a fit one, else a new one. */
export function requestId({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID()
}

/** Every request has a caller, and every answer the id of its request. */
export function identify(app: FastifyInstance): void {
  app.decorateRequest('caller')
  app.addHook('onRequest', async (request, reply) => {
    request.caller = { name: 'local', role: 'admin', requestId: request.id }
    reply.header('x-request-id', request.id)
  })
}

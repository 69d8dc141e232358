/** What clients say of the version that they have, or mean to change (RFC 9110 §13, RFC 6585 §3). */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Document } from '../../policy/schema.ts'
import { etagOf, namesExactly, namesOne } from './etag.ts'
import { ApiError } from './problem.ts'

type Headers = Readonly<Record<string, string | string[] | undefined>>

/** Nobody replaces what they have not seen. @throws ApiError */
export function checkPut(headers: Headers, current: Document | null): void {
  checkConditions(headers, current)
  if (current !== null && headers['if-match'] === undefined) {
    throw new ApiError(
      'precondition-required',
      `${current.kind} ${current.name} exists; name its ETag in If-Match`,
    )
  }
}

/** @throws ApiError when a condition is not met (RFC 9110 §13.2.2) */
export function checkConditions(headers: Headers, current: Document | null): void {
  const etag = current === null ? null : etagOf(current)
  mustMatch(headers, etag)
  if (
    current !== null &&
    headers['if-none-match'] !== undefined &&
    namesOne(headers['if-none-match'], etag ?? '')
  )
    throw new ApiError('precondition-failed', `${current.kind} ${current.name} exists already`)
}

/**
 * Of what is about to be answered to GET or HEAD: says which version it is, and whether the client has it, so that 304
 * is the answer.
 * @throws ApiError when it is not the one that If-Match names
 */
export function isKnown({ headers }: FastifyRequest, reply: FastifyReply, etag: string): boolean {
  reply.header('etag', etag)
  mustMatch(headers, etag)
  return headers['if-none-match'] !== undefined && namesOne(headers['if-none-match'], etag)
}

/** @throws ApiError */
function mustMatch(headers: Headers, etag: string | null): void {
  if (headers['if-match'] !== undefined && (etag === null || !namesExactly(headers['if-match'], etag)))
    throw new ApiError('precondition-failed', 'it is not the version that If-Match names')
}

/**
 * A 304 to HEAD says nothing of a length: it would be that of the answer to GET (RFC 9110 §8.6), and Fastify says 0. To be
 * called before there are routes.
 */
export function answerHeads(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (route.method !== 'HEAD') return
    route.onSend = [
      ...[route.onSend ?? []].flat(),
      (_, reply, payload, done) => {
        if (reply.statusCode === 304) reply.removeHeader('content-length')
        done(null, payload)
      },
    ]
  })
}

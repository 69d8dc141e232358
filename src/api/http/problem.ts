/** Errors as RFC 9457 problem details: one table of codes, one way to answer. */
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { Count, DiagnosticSchema, KindSchema, object, oneOf, Text } from '../schemas.ts'

/** Every code a client can meet, with its HTTP status and title. The codes are stable. */
export const PROBLEMS = {
  'bad-request': [400, 'The request is not well formed'],
  unauthenticated: [401, 'Say who you are, with a token or a certificate'],
  forbidden: [403, 'You may not do this'],
  'four-eyes': [403, 'Somebody else than the one who asked must approve it'],
  'not-found': [404, 'There is no such thing'],
  'method-not-allowed': [405, 'This cannot be done to it'],
  'not-acceptable': [406, 'It cannot be had in any form that the request accepts'],
  'request-timeout': [408, 'The request did not arrive in time'],
  'file-exists': [409, 'The file for this document holds something else'],
  'file-unchangeable': [409, 'The file can be changed by hand only'],
  'confirmation-pending': [409, 'Another change waits for its confirmation'],
  'nothing-pending': [409, 'No change waits for a confirmation'],
  'policies-held': [409, 'The policies hold a change that was taken back'],
  'request-in-progress': [409, 'The first request with this Idempotency-Key is not done yet'],
  'request-decided': [409, 'The request is decided already'],
  'open-incident': [409, 'A host that would be exempt has an open incident'],
  'edited-by-hand': [409, 'Somebody has edited the files by hand'],
  'history-conflict': [409, "Two changes touch the same lines, or the remote's branch was rewritten"],
  'no-history': [409, 'The policies have no history'],
  'token-exists': [409, 'A token of this name is in force'],
  'too-many-tokens': [409, 'There are too many tokens'],
  'precondition-failed': [412, 'It has changed meanwhile, or exists already'],
  'body-too-large': [413, 'The body is too large'],
  'unsupported-media-type': [415, 'Send JSON or YAML'],
  'expectation-failed': [417, 'Nothing but 100-continue can be expected'],
  'invalid-document': [422, 'The document has mistakes'],
  'invalid-policy': [422, 'With this change the policies would have mistakes'],
  'policy-tests-failed': [422, 'With this change policy tests would fail'],
  unsigned: [422, 'The revision is not signed by an allowed signer'],
  'reason-required': [422, 'Say why'],
  'idempotency-key-reused': [422, 'This Idempotency-Key was used for something else'],
  'precondition-required': [428, 'Say which version you mean to replace, with If-Match'],
  'too-many-requests': [429, 'Too many requests; wait a little'],
  'head-too-large': [431, 'The head of the request is too large'],
  internal: [500, 'Something went wrong here'],
  'kernel-refused': [503, 'The kernel did not take the change'],
  unguarded: [503, 'The change cannot be guarded, and was not made'],
  'policies-unwritable': [503, 'The policy directory cannot be written'],
  'state-unwritable': [503, 'The state directory cannot be written'],
  'half-made': [503, 'Files and rules differ: the change is made in part'],
  'policies-unreadable': [503, 'The policy directory cannot be read'],
  'history-failed': [503, 'The history of the policies cannot be read or written'],
  'history-unavailable': [503, 'The memory of attempts cannot be read'],
  'too-many-listeners': [503, 'Too many listen to events'],
  'not-ready': [503, 'The gateway is not ready'],
} as const satisfies Record<string, readonly [number, string]>

export type ProblemCode = keyof typeof PROBLEMS

/** Whatever changes the policies can be answered with these. */
export const CHANGE_PROBLEMS = [
  'invalid-policy',
  'policy-tests-failed',
  'policies-unreadable',
  'policies-unwritable',
  'half-made',
  'policies-held',
  'confirmation-pending',
  'kernel-refused',
  'edited-by-hand',
  'file-unchangeable',
] as const satisfies readonly ProblemCode[]

const CODES = Object.keys(PROBLEMS) as ProblemCode[]

export const ProblemSchema = object(
  {
    type: Type.String({ pattern: '^urn:egress25:problem:[a-z-]+$' }),
    title: Text,
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    code: oneOf(CODES),
    detail: Text,
    errors: Type.Optional(
      Type.Array(
        object({
          pointer: Type.String({
            description: 'RFC 6901; of a document within it, else after /querystring and the like',
          }),
          code: Type.Optional(Text),
          message: Text,
        }),
      ),
    ),
    diagnostics: Type.Optional(Type.Array(DiagnosticSchema)),
    files: Type.Optional(Type.Array(Text, { description: 'those that are in the way' })),
    incidents: Type.Optional(
      Type.Array(object({ id: Text, kind: Text, source: Text, summary: Text }), {
        description: 'what speaks against an exemption',
      }),
    ),
    failures: Type.Optional(
      Type.Array(
        object({
          test: Text,
          file: Text,
          line: Count,
          column: Count,
          expected: Text,
          found: object({
            verdict: Text,
            reason: Text,
            document: Type.Union([
              object({ kind: KindSchema, name: Text, file: Text, line: Count }),
              Type.Null(),
            ]),
          }),
        }),
      ),
    ),
  },
  { title: 'Problem', description: 'RFC 9457, with a `code` that never changes its meaning' },
)

declare module 'fastify' {
  interface FastifyRequest {
    /** What was answered, when it was a problem. */
    problem: ProblemCode | null
  }
}

/** Thrown by handlers; the error handler turns it into an answer. */
export class ApiError extends Error {
  readonly code: ProblemCode
  readonly detail: Readonly<Record<string, unknown>>

  constructor(code: ProblemCode, message: string, detail: Readonly<Record<string, unknown>> = {}) {
    super(message)
    this.code = code
    this.detail = detail
  }
}

/** Of a parameter, or of what is at a pointer into the body. */
export function wrong(pointer: string, message: string): ApiError {
  return new ApiError('bad-request', `${pointer} ${message}`, { errors: [{ pointer, message }] })
}

/** The members of a problem (RFC 9457 §3.1), and those of our own. */
export function problemBody({ code, message, detail }: ApiError) {
  const [status, title] = PROBLEMS[code]
  return { type: `urn:egress25:problem:${code}`, title, status, code, detail: message, ...detail }
}

export const PROBLEM_TYPE = 'application/problem+json'

export function sendProblem(reply: FastifyReply, error: ApiError): FastifyReply {
  const body = problemBody(error)
  reply.request.problem = error.code
  return reply.code(body.status).type(PROBLEM_TYPE).send(body)
}

/** `/v1/pull`: fetch the policies from their remote now, because somebody asks or a webhook says that there is news. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { Type } from 'typebox'
import { remoteBody } from '../../control/repository/policy-repository.ts'
import { SYNC_STATES } from '../../control/repository/sync.ts'
import type { Context } from '../context.ts'
import { ApiError, CHANGE_PROBLEMS, type ProblemCode } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { DiagnosticSchema, nullable, object, oneOf, Text, Time } from '../schemas.ts'

export const RemoteSchema = object(
  {
    url: Text,
    branch: Text,
    state: oneOf(SYNC_STATES),
    looked: nullable(Time),
    revision: nullable(Type.String({ description: 'of the remote' })),
    ahead: Type.Integer({ minimum: 0, description: 'commits here that the remote does not have' }),
    reason: nullable(Text),
    diagnostics: Type.Array(DiagnosticSchema),
    kept: nullable(Type.String({ description: 'the branch at the remote that keeps what was changed here' })),
  },
  { title: 'Remote', description: 'how this gateway and the remote stand to each other' },
)

const PROBLEMS: readonly ProblemCode[] = [
  ...CHANGE_PROBLEMS,
  'no-history',
  'history-failed',
  'history-conflict',
  'unsigned',
]

const WebhookBody = Type.Unsafe<unknown>({
  description: 'whatever the forge says; what is new is asked of the remote itself',
  examples: [{ ref: 'refs/heads/main' }],
})

/** Seconds by which the time in a signature may be off. */
const TOLERANCE = 300

export const pullRoutes: Routes<Context> = (app, { repository, policies }) => {
  app.post(
    '/v1/pull',
    {
      schema: {
        operationId: 'pull',
        summary: 'Fetch the policies from their remote, apply what is new, and push what is new here',
        tags: ['history'],
        response: { 200: RemoteSchema },
      },
      config: { access: 'operator', problems: PROBLEMS },
    },
    async ({ caller }) => {
      const { sync } = repository
      await sync.pull(caller)
      return remoteBody(sync, policies)
    },
  )

  app.register(async (scope) => {
    // A signature is over the bytes, whatever they are.
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, async (_: unknown, body: string | Buffer) => body)
    scope.post(
      '/v1/pull/webhook',
      {
        schema: {
          operationId: 'pullWebhook',
          summary:
            'The same soon, asked for by a forge: the body is signed in X-Hub-Signature-256 or Egress25-Signature',
          tags: ['history'],
          response: { 202: object({ accepted: Type.Literal(true) }) },
        },
        config: { access: 'public', body: WebhookBody, problems: ['no-history', 'unauthenticated'] },
      },
      async ({ headers, body }, reply) => {
        const { webhookSecret } = repository
        const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0)
        if (webhookSecret === null || !isSigned(headers, bytes, webhookSecret, Date.now()))
          throw new ApiError('unauthenticated', 'the webhook is not signed with the secret of this gateway')
        repository.pullSoon()
        return reply.code(202).send({ accepted: true })
      },
    )
  })
}

type Headers = Readonly<Record<string, string | string[] | undefined>>

/** HMAC-SHA256 (RFC 2104), as forges send it: over the body; or as our own webhooks do: over the time and the body. */
export function isSigned(headers: Headers, body: Buffer, secret: string, now: number): boolean {
  const hub = /^sha256=([0-9a-f]{64})$/.exec(String(headers['x-hub-signature-256'] ?? ''))?.[1]
  if (hub !== undefined) return isMac(hub, secret, body)
  const [, time = '', own = ''] =
    /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(String(headers['egress25-signature'] ?? '')) ?? []
  if (own === '' || Math.abs(now / 1_000 - Number(time)) > TOLERANCE) return false
  return isMac(own, secret, Buffer.concat([Buffer.from(`${time}.`), body]))
}

function isMac(hex: string, secret: string, data: Buffer): boolean {
  const wanted = createHmac('sha256', secret).update(data).digest()
  return timingSafeEqual(wanted, Buffer.from(hex, 'hex'))
}

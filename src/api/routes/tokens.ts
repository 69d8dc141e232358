/** `/v1/tokens`: who may use the API, made and revoked while it runs. */
import { Type } from 'typebox'
import { ROLES } from '../../caller.ts'
import { parseDuration } from '../../policy/formats.ts'
import { isInForce, type Token, type TokenStore } from '../../store/tokens.ts'
import { limitOf, numberCursor, PageQuery, page } from '../http/page.ts'
import { ApiError } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Name, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'

const DAY = 86_400_000
const LONGEST = 1_826 * DAY
export const DEFAULT_LIFETIME = '90d'

const TOKEN = {
  id: Type.String({ pattern: '^[0-9a-f]{12}$', description: 'also in the token itself, and no secret' }),
  name: Name,
  role: oneOf(ROLES),
  created: Time,
  created_by: Text,
  expires: Time,
  revoked: nullable(Time),
  last_used: nullable(Type.String({ format: 'date-time', description: 'to the minute' })),
  in_force: Type.Boolean(),
}
const TokenSchema = object(TOKEN, { title: 'Token', description: 'a token, without what makes it one' })

const NewTokenSchema = object(
  {
    ...TOKEN,
    token: nullable(
      Type.String({
        description: 'told this once; null in an answer that is repeated for its Idempotency-Key',
      }),
    ),
  },
  { title: 'NewToken' },
)

const Body = object(
  {
    name: Name,
    role: oneOf(ROLES),
    expires_in: Type.Optional(
      Type.String({
        pattern: '^[1-9][0-9]{0,8}[smhd]$',
        description: `from now; ${DEFAULT_LIFETIME} when absent`,
      }),
    ),
  },
  { title: 'TokenBody', examples: [{ name: 'monitoring', role: 'viewer', expires_in: '30d' }] },
)

const IdParams = Type.Object({ id: Type.String({ pattern: '^[0-9a-f]{12}$' }) })

export const tokenRoutes: Routes<TokenStore> = (app, tokens) => {
  app.get(
    '/v1/tokens',
    {
      schema: {
        operationId: 'listTokens',
        summary: 'All tokens, in the order in which they were made',
        tags: ['access'],
        querystring: PageQuery,
        response: { 200: pageOf(TokenSchema, 'a page of tokens') },
      },
      config: { access: 'admin' },
    },
    ({ query }) => {
      const limit = limitOf(query)
      const found = tokens.list(numberCursor(query) ?? 0, limit + 1)
      const { items, next } = page(found, limit, ({ number }) => String(number))
      return { items: items.map((token) => tokenBody(token, Date.now())), next }
    },
  )

  app.get(
    '/v1/tokens/:id',
    {
      schema: {
        operationId: 'getToken',
        summary: 'One token',
        tags: ['access'],
        params: IdParams,
        response: { 200: TokenSchema },
      },
      config: { access: 'admin', problems: ['not-found'] },
    },
    ({ params: { id } }) => {
      const token = tokens.get(id)
      if (token === null) throw new ApiError('not-found', `there is no token ${id}`)
      return tokenBody(token, Date.now())
    },
  )

  app.post(
    '/v1/tokens',
    {
      schema: {
        operationId: 'createToken',
        summary: 'Make a token',
        tags: ['access'],
        body: Body,
        response: { 201: NewTokenSchema },
      },
      config: { access: 'admin', problems: ['token-exists', 'too-many-tokens'], secrets: ['token'] },
    },
    async ({ body: { name, role, expires_in = DEFAULT_LIFETIME }, caller }, reply) => {
      const now = Date.now()
      const lifetime = parseDuration(expires_in) ?? 0
      if (lifetime > LONGEST) {
        const message = `must not be longer than ${LONGEST / DAY}d`
        throw new ApiError('bad-request', `expires_in ${message}`, {
          errors: [{ pointer: '/expires_in', code: 'bad-value', message }],
        })
      }
      const { token, secret } = tokens.create({ name, role, expires: now + lifetime, by: caller.name }, now)
      return reply.code(201).send({ ...tokenBody(token, now), token: secret })
    },
  )

  app.delete(
    '/v1/tokens/:id',
    {
      schema: {
        operationId: 'revokeToken',
        summary: 'Revoke a token: from now on nobody is known by it',
        tags: ['access'],
        params: IdParams,
        response: { 204: { description: 'it is revoked' } },
      },
      config: { access: 'admin', problems: ['not-found'] },
    },
    async ({ params: { id } }, reply) => {
      if (!tokens.revoke(id, Date.now())) throw new ApiError('not-found', `there is no token ${id}`)
      return reply.code(204).send(null)
    },
  )
}

export function tokenBody(token: Token, now: number) {
  const { id, name, role, created, createdBy, expires, revoked, lastUsed } = token
  return {
    id,
    name,
    role,
    created: new Date(created).toISOString(),
    created_by: createdBy,
    expires: new Date(expires).toISOString(),
    revoked: revoked === null ? null : new Date(revoked).toISOString(),
    last_used: lastUsed === null ? null : new Date(lastUsed).toISOString(),
    in_force: isInForce(token, now),
  }
}

/** `/v1/explain`: the verdict on a source and a destination. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { explain } from '../policy/explain.ts'
import type { Model } from '../policy/model.ts'
import { type Prefix, parseAddress } from '../policy/prefix.ts'
import type { Context } from './context.ts'
import { ApiError } from './problem.ts'

const ExplainQuery = Type.Object(
  {
    source: Type.String({ maxLength: 64 }),
    destination: Type.String({ maxLength: 64 }),
    port: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,4}$' })),
    user: Type.Optional(Type.String({ maxLength: 32 })),
    leaves_by: Type.Optional(Type.String({ maxLength: 15 })),
  },
  { additionalProperties: false },
)

export function explainRoutes(app: FastifyInstance, context: Context): void {
  app.get<{ Querystring: Static<typeof ExplainQuery> }>(
    '/v1/explain',
    { schema: { querystring: ExplainQuery } },
    ({ query }) => {
      const packet = {
        source: readAddress(query.source, '/querystring/source'),
        destination: readAddress(query.destination, '/querystring/destination'),
        port: Number(query.port ?? 25),
        user: query.user ?? null,
      }
      const { outsideInterfaces } = context
      return explain(modelOf(context), packet, Date.now(), { outsideInterfaces, by: query.leaves_by ?? null })
    },
  )
}

/** @throws ApiError when there are none */
export function modelOf({ controller }: Context): Model {
  if (controller.inForce === null) throw new ApiError('not-ready', 'no policies are in force')
  return controller.inForce.model
}

/** @throws ApiError */
export function readAddress(text: string, pointer: string): Prefix {
  const address = parseAddress(text)
  if (address !== null) return address
  const message = 'must be an IPv4 or IPv6 address'
  throw new ApiError('bad-request', `${pointer} ${message}`, { errors: [{ pointer, message }] })
}

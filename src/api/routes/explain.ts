/** `/v1/explain`: the verdict on a source and a destination. */
import { Type } from 'typebox'
import { explain } from '../../policy/explain.ts'
import { FORMATS } from '../../policy/formats.ts'
import type { Model } from '../../policy/model.ts'
import { type Prefix, parseAddress } from '../../policy/prefix.ts'
import type { Context } from '../context.ts'
import { ApiError, wrong } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Count, KindSchema, Name, nullable, object, oneOf, Text } from '../schemas.ts'

const ExplainQuery = Type.Object(
  {
    source: Type.String({ maxLength: 64, examples: ['100.64.1.2'] }),
    destination: Type.String({ maxLength: 64, examples: ['203.0.113.9'] }),
    port: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,4}$' })),
    user: Type.Optional(Type.String({ maxLength: 32 })),
    leaves_by: Type.Optional(Type.String({ maxLength: 15 })),
  },
  { additionalProperties: false },
)

const ExplanationSchema = object(
  {
    verdict: oneOf(['allow', 'block', 'redirect', 'observe', 'ungoverned']),
    reason: Text,
    document: nullable(object({ kind: KindSchema, name: Name, file: Text, line: Count })),
  },
  { title: 'Explanation', description: 'the verdict, why, and the document that decided it' },
)

export const explainRoutes: Routes<Context> = (app, context) => {
  app.get(
    '/v1/explain',
    {
      schema: {
        operationId: 'explain',
        summary: 'What becomes of a packet, and why',
        tags: ['verdicts'],
        querystring: ExplainQuery,
        response: { 200: ExplanationSchema },
      },
      config: { access: 'viewer' },
    },
    ({ query }) => {
      const source = readAddress(query.source, '/querystring/source')
      const destination = readAddress(query.destination, '/querystring/destination')
      if (source.family !== destination.family)
        throw wrong('/querystring/destination', 'must be of the family of the source')
      if (Number(query.port ?? 25) > 65_535) throw wrong('/querystring/port', 'must be at most 65535')
      const packet = {
        source,
        destination,
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
  throw wrong(pointer, FORMATS.address(text)?.message ?? 'must be an IPv4 or IPv6 address')
}

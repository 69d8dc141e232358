/** `/openapi.json`: what the routes say of themselves, as OpenAPI 3.1. */
import swagger from '@fastify/swagger'
import type { FastifySchema, RouteOptions } from 'fastify'
import { VERSION } from '../version.ts'
import { isReading } from './http/change-hooks.ts'
import { PROBLEMS, type ProblemCode, ProblemSchema } from './http/problem.ts'
import type { Access, Api } from './route.ts'

type Json = Record<string, unknown>

const MUTUAL_TLS = {
  type: 'mutualTLS',
  description: 'a client certificate that api.tls.clients names',
} as unknown as { type: 'apiKey'; name: string; in: string }

/** To be called before there are routes. */
export async function describe(app: Api): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'egress25',
        version: VERSION,
        description: 'Outbound port 25 egress firewall: policies, incidents, attempts.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          token: { type: 'http', scheme: 'bearer', description: 'a token of `egress25 token create`' },
          // A type of OpenAPI 3.1 that the plugin's types, made for 3.0, lack.
          certificate: MUTUAL_TLS,
        },
      },
    },
    transform: ({ schema, url, route }) => ({ schema: described(schema, route), url }),
    transformObject: (made) => hoist(('openapiObject' in made ? made.openapiObject : {}) as Json),
  })
  let text: string | null = null
  app.get(
    '/openapi.json',
    {
      schema: { summary: 'This description', tags: ['service'], response: { 200: {} } },
      config: { access: 'public' },
    },
    (_, reply) => {
      text ??= JSON.stringify(app.swagger())
      return reply.type('application/json').send(text)
    },
  )
}

/** Problems that come from outside of the handlers. */
const COMMON: readonly ProblemCode[] = ['bad-request', 'not-acceptable', 'internal', 'not-ready']
const GUARDED: readonly ProblemCode[] = ['unauthenticated', 'forbidden', 'too-many-requests']
const CHANGING: readonly ProblemCode[] = [
  'body-too-large',
  'unsupported-media-type',
  'idempotency-key-reused',
  'request-in-progress',
  'state-unwritable',
]

/** Every problem that a route can answer with. */
export function problemsOf({ method, url, config }: RouteOptions): ProblemCode[] {
  return [
    ...COMMON,
    ...(url.includes(':') ? (['not-found'] as const) : []),
    ...(config?.access === 'public' ? [] : GUARDED),
    ...([method].flat().every(isReading) ? [] : CHANGING),
    ...(config?.problems ?? []),
  ]
}

function described(schema: FastifySchema | undefined, route: RouteOptions): FastifySchema {
  const { access = 'admin', body } = route.config ?? {}
  const responses: Json = { ...(schema?.response as Json | undefined) }
  const byStatus = Map.groupBy(problemsOf(route), (code) => PROBLEMS[code][0])
  for (const [status, codes] of byStatus) {
    // A probe such as /readyz has an answer of its own.
    responses[status] ??= {
      description: [...new Set(codes)].map((code) => `\`${code}\`: ${PROBLEMS[code][1]}`).join('; '),
      content: { 'application/problem+json': { schema: ProblemSchema } },
    }
  }
  return {
    ...schema,
    ...(body === undefined ? {} : { body, consumes: ['application/json', 'application/yaml'] }),
    security: securityOf(access),
    response: responses,
  }
}

function securityOf(access: Access): { [scheme: string]: string[] }[] {
  return access === 'public' ? [] : [{ token: [access] }, { certificate: [access] }]
}

/** Schemas with a title, once each, where clients look for them. */
function hoist(document: Json): Json {
  const schemas: Json = {}
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    const walked = Object.fromEntries(
      Object.entries(value).map(([key, part]) => [key, key === 'examples' ? part : walk(part)]),
    )
    const { title } = value as { title?: unknown }
    if (typeof title !== 'string' || !('type' in value || 'anyOf' in value)) return walked
    schemas[title] = walked
    return { $ref: `#/components/schemas/${title}` }
  }
  const paths = walk(document['paths'])
  return { ...document, paths, components: { ...(document['components'] as Json), schemas } } as Json
}

/** `/v1/explain`: the verdict on a source and a destination, and `/v1/sources/{address}`: what one machine did. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { sourcesSet } from '../compile/compile-policies.ts'
import { incidentBody } from '../detect/incident-body.ts'
import { governingPolicy } from '../policy/decide.ts'
import { explain } from '../policy/explain.ts'
import type { Model } from '../policy/model.ts'
import {
  addressBits,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  truncate,
} from '../policy/prefix.ts'
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
const SourceParams = Type.Object({ address: Type.String({ maxLength: 64 }) })

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

  app.get<{ Params: Static<typeof SourceParams> }>(
    '/v1/sources/:address',
    { schema: { params: SourceParams } },
    async ({ params }) => {
      const address = readAddress(params.address, '/params/address')
      const policy = governingPolicy(modelOf(context), address)?.policy ?? null
      const length = address.family === 6 ? (policy?.thresholds.ipv6Prefix ?? 128) : addressBits(4)
      const machine = truncate(address, length)
      const source = formatPrefix(machine)
      const attempts =
        policy === null ? 0 : await context.enforcer.countSource(sourcesSet(machine), formatAddress(machine))
      const open = context.monitor.detector.open().filter((incident) => incident.source === source)
      return { source, policy: policy?.name ?? null, attempts, incidents: open.map(incidentBody) }
    },
  )
}

function modelOf({ controller }: Context): Model {
  if (controller.inForce === null) throw new ApiError('not-ready', 'no policies are in force')
  return controller.inForce.model
}

function readAddress(text: string, pointer: string): Prefix {
  const address = parseAddress(text)
  if (address !== null) return address
  const message = 'must be an IPv4 or IPv6 address'
  throw new ApiError('bad-request', `${pointer} ${message}`, { errors: [{ pointer, message }] })
}

/** `/v1/incidents`: infected and misconfigured machines. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { INCIDENT_KINDS, type Incident } from '../detect/incident.ts'
import { incidentBody } from '../detect/incident-body.ts'
import type { Context } from './context.ts'
import { limitOf, PageQuery, page, readCursor } from './page.ts'
import { ApiError } from './problem.ts'

const IdParams = Type.Object({ id: Type.String({ maxLength: 64 }) })
const ListQuery = Type.Object(
  {
    ...PageQuery.properties,
    state: Type.Optional(Type.Enum(['open', 'resolved'])),
    kind: Type.Optional(Type.Enum([...INCIDENT_KINDS])),
  },
  { additionalProperties: false },
)

export function incidentRoutes(app: FastifyInstance, { incidents, monitor, onIncident }: Context): void {
  /** An open incident grows from second to second; the detector has its latest. */
  const latest = (incident: Incident): Incident =>
    monitor.detector.open().find(({ id }) => id === incident.id) ?? incident
  const find = (id: string): Incident => {
    const found = incidents.get(id)
    if (found === null) throw new ApiError('not-found', `there is no incident ${id}`)
    return latest(found)
  }

  app.get<{ Querystring: Static<typeof ListQuery> }>(
    '/v1/incidents',
    { schema: { querystring: ListQuery } },
    ({ query }) => {
      const limit = limitOf(query)
      const after = parseCursor(readCursor(query))
      const { state, kind } = query
      const found = incidents.list({
        limit: limit + 1,
        ...(state === undefined ? {} : { state: state as Incident['state'] }),
        ...(kind === undefined ? {} : { kind }),
        ...(after === null ? {} : { after }),
      })
      const { items, next } = page(found, limit, ({ lastSeen, id }) => `${lastSeen} ${id}`)
      return { items: items.map((incident) => incidentBody(latest(incident))), next }
    },
  )

  app.get<{ Params: Static<typeof IdParams> }>(
    '/v1/incidents/:id',
    { schema: { params: IdParams } },
    ({ params }) => incidentBody(find(params.id)),
  )

  app.post<{ Params: Static<typeof IdParams> }>(
    '/v1/incidents/:id/resolve',
    { schema: { params: IdParams } },
    ({ params }) => {
      const incident = find(params.id)
      const event = monitor.detector.resolve(incident.id, Date.now())
      if (event === null) return incidentBody(incident)
      onIncident(event)
      return incidentBody(event.incident)
    },
  )
}

function parseCursor(cursor: string | null): { lastSeen: number; id: string } | null {
  if (cursor === null) return null
  const [time = '', id = ''] = cursor.split(' ')
  if (!/^\d{1,16}$/.test(time)) throw new ApiError('bad-request', 'the cursor is not one that was given out')
  return { lastSeen: Number(time), id }
}

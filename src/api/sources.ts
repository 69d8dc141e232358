/** `/v1/sources`: the machines with the most attempts, and `/v1/sources/{address}`: what one machine did. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { incidentBody } from '../detect/incident-body.ts'
import { governingPolicy } from '../policy/decide.ts'
import { addressBits, formatAddress, formatPrefix, type Prefix, truncate } from '../policy/prefix.ts'
import { HistoryUnavailableError } from '../store/attempts.ts'
import type { Machine } from '../store/attempts-query.ts'
import { learnedSetOf } from '../watch/source-counters.ts'
import { attemptBody } from './attempts.ts'
import type { Context } from './context.ts'
import { modelOf, readAddress } from './explain.ts'
import { pointBody, rankingSpan, readSpan, SpanQuery, seriesSpan } from './history-query.ts'
import { limitOf, PageQuery, page, readCursor } from './page.ts'
import { ApiError } from './problem.ts'

const SourceParams = Type.Object({ address: Type.String({ maxLength: 64 }) })
const ListQuery = Type.Object(
  {
    ...PageQuery.properties,
    ...SpanQuery.properties,
    policy: Type.Optional(Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,47}$' })),
    role: Type.Optional(Type.Enum(['governed', 'allowed'])),
  },
  { additionalProperties: false },
)
const OneQuery = Type.Object(
  { ...SpanQuery.properties, step: Type.Optional(Type.Enum(['minute', 'hour', 'day', 'week'])) },
  { additionalProperties: false },
)

const RECENT = 20
const DESTINATIONS = 20
const INCIDENTS = 50
/** Pages end there: nobody reads on, and each costs as much as all before it. */
const MAX_OFFSET = 100_000

export function sourceRoutes(app: FastifyInstance, context: Context): void {
  const { history, retain } = context

  app.get<{ Querystring: Static<typeof ListQuery> }>(
    '/v1/sources',
    { schema: { querystring: ListQuery } },
    ({ query }) => {
      const { policy, role } = query
      const limit = limitOf(query)
      const offset = parseCursor(readCursor(query))
      const now = Date.now()
      const span = rankingSpan(readSpan(query, now), now)
      const found = history.log.top({
        ...span,
        allowed: role === 'allowed',
        limit: limit + 1,
        offset,
        ...(policy === undefined ? {} : { policy }),
      })
      const { items, next } = page(found, limit, () => String(offset + limit))
      const [from, to] = [span.from, span.to].map((time) => new Date(time).toISOString())
      return { items: items.map(machineBody), next, from, to }
    },
  )

  app.get<{ Params: Static<typeof SourceParams>; Querystring: Static<typeof OneQuery> }>(
    '/v1/sources/:address',
    { schema: { params: SourceParams, querystring: OneQuery } },
    async ({ params, query }) => {
      const address = readAddress(params.address, '/params/address')
      const now = Date.now()
      const span = seriesSpan(readSpan(query, now), query.step as Parameters<typeof seriesSpan>[1], {
        now,
        retain,
      })
      const policy = governingPolicy(modelOf(context), address)?.policy ?? null
      const length = address.family === 6 ? (policy?.thresholds.ipv6Prefix ?? 128) : addressBits(4)
      const machine = truncate(address, length)
      const source = formatPrefix(machine)
      const attempts = policy === null ? 0 : await countOf(context, machine)
      const open = context.monitor.detector.open().filter((incident) => incident.source === source)
      return {
        source,
        policy: policy?.name ?? null,
        /** By the kernel; it forgets a machine after a quiet day. */
        attempts,
        incidents: open.map(incidentBody),
        incident_ids: context.incidents.idsOf(source, INCIDENTS),
        ...remembered(),
      }

      /** Nothing of it where the memory cannot be read: the rest is known all the same. */
      function remembered() {
        try {
          const seen = history.log.seen(source)
          const points = history.log.series({ source }, span).map(pointBody)
          return {
            first_seen: seen === null ? null : new Date(seen.firstSeen).toISOString(),
            last_seen: seen === null ? null : new Date(seen.lastSeen).toISOString(),
            series: { step: span.step, points },
            destinations: history.log.topDestinations(source, span, DESTINATIONS),
            recent: history.log.recent({ source: machine, limit: RECENT }).map(attemptBody),
          }
        } catch (error) {
          if (!(error instanceof HistoryUnavailableError)) throw error
          return { first_seen: null, last_seen: null, series: null, destinations: null, recent: null }
        }
      }
    },
  )
}

/** What the kernel has counted; the memory learns of it, too. */
async function countOf({ enforcer, history }: Context, machine: Prefix): Promise<number> {
  const address = formatAddress(machine)
  const attempts = await enforcer.countSource(learnedSetOf(machine, false), address)
  if (attempts > 0) history.countOne(machine, false, address, attempts)
  return attempts
}

function machineBody({ firstSeen, lastSeen, ...machine }: Machine) {
  return {
    ...machine,
    first_seen: new Date(firstSeen).toISOString(),
    last_seen: new Date(lastSeen).toISOString(),
  }
}

function parseCursor(cursor: string | null): number {
  if (cursor === null) return 0
  if (!/^\d{1,6}$/.test(cursor) || Number(cursor) > MAX_OFFSET) {
    throw new ApiError('bad-request', 'the cursor is not one that was given out')
  }
  return Number(cursor)
}

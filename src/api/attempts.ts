/** `/v1/attempts`: the latest attempts one by one, and `/v1/attempts/series`: how many there were over time. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { formatPrefix, type Prefix, parsePrefix } from '../policy/prefix.ts'
import type { RecentAttempt } from '../store/attempts-query.ts'
import type { Verdict } from '../watch/attempt.ts'
import type { Context } from './context.ts'
import { pointBody, readSpan, readTime, SpanQuery, seriesSpan, wrong } from './history-query.ts'
import { limitOf, PageQuery, page, readCursor } from './page.ts'
import { ApiError } from './problem.ts'

const Name = Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,47}$' })
const ListQuery = Type.Object(
  {
    ...PageQuery.properties,
    source: Type.Optional(Type.String({ maxLength: 64 })),
    policy: Type.Optional(Name),
    verdict: Type.Optional(Type.Enum(['block', 'redirect', 'observe', 'allow'])),
    since: Type.Optional(Type.String({ maxLength: 40 })),
    until: Type.Optional(Type.String({ maxLength: 40 })),
  },
  { additionalProperties: false },
)
const SeriesQuery = Type.Object(
  {
    ...SpanQuery.properties,
    source: Type.Optional(Type.String({ maxLength: 64 })),
    policy: Type.Optional(Name),
    step: Type.Optional(Type.Enum(['minute', 'hour', 'day', 'week'])),
  },
  { additionalProperties: false },
)

export function attemptRoutes(app: FastifyInstance, { history, retain }: Context): void {
  app.get<{ Querystring: Static<typeof ListQuery> }>(
    '/v1/attempts',
    { schema: { querystring: ListQuery } },
    ({ query }) => {
      const { source, policy, verdict, since, until } = query
      const limit = limitOf(query)
      const before = parseCursor(readCursor(query))
      const found = history.log.recent({
        limit: limit + 1,
        ...(source === undefined ? {} : { source: readSource(source) }),
        ...(policy === undefined ? {} : { policy }),
        ...(verdict === undefined ? {} : { verdict: verdict as Verdict }),
        ...(since === undefined ? {} : { since: readTime(since, 'since') }),
        ...(until === undefined ? {} : { until: readTime(until, 'until') }),
        ...(before === null ? {} : { before }),
      })
      const { items, next } = page(found, limit, ({ id }) => String(id))
      return { items: items.map(attemptBody), next }
    },
  )

  app.get<{ Querystring: Static<typeof SeriesQuery> }>(
    '/v1/attempts/series',
    { schema: { querystring: SeriesQuery } },
    ({ query }) => {
      const { source, policy, step } = query
      if (source !== undefined && policy !== undefined) throw wrong('policy', 'and source exclude each other')
      const now = Date.now()
      const span = seriesSpan(readSpan(query, now), step as Parameters<typeof seriesSpan>[1], { now, retain })
      const of =
        source !== undefined
          ? { source: formatPrefix(readSource(source)) }
          : policy !== undefined
            ? { policy }
            : 'all'
      return {
        step: span.step,
        from: new Date(span.from).toISOString(),
        to: new Date(span.to).toISOString(),
        points: history.log.series(of, span).map(pointBody),
      }
    },
  )
}

/** As it is in the log and in events. */
export function attemptBody(attempt: RecentAttempt) {
  const { time, source, sourcePort, destination, policy, verdict, because, uid, mac } = attempt
  return {
    time: new Date(time).toISOString(),
    source,
    source_port: sourcePort,
    destination,
    interface: attempt.interface,
    policy,
    verdict,
    because,
    uid,
    mac,
  }
}

function readSource(text: string): Prefix {
  const prefix = parsePrefix(text)
  if (typeof prefix !== 'string') return prefix
  throw wrong(
    'source',
    prefix === 'host-bits' ? 'has host bits set' : 'must be an IPv4 or IPv6 address or prefix',
  )
}

function parseCursor(cursor: string | null): number | null {
  if (cursor === null) return null
  if (!/^\d{1,15}$/.test(cursor)) {
    throw new ApiError('bad-request', 'the cursor is not one that was given out')
  }
  return Number(cursor)
}

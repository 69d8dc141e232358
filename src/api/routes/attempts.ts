/** `/v1/attempts`: the latest attempts one by one, and `/v1/attempts/series`: how many there were over time. */
import { Type } from 'typebox'
import { FORMATS } from '../../policy/formats.ts'
import { formatPrefix, type Prefix, parsePrefix } from '../../policy/prefix.ts'
import type { RecentAttempt } from '../../store/attempts-query.ts'
import type { Context } from '../context.ts'
import { limitOf, numberCursor, PageQuery, page } from '../http/page.ts'
import { wrong } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Name, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'
import {
  PointSchema,
  pointBody,
  readSpan,
  readTime,
  SpanQuery,
  StepSchema,
  seriesSpan,
} from './history-query.ts'
import { SubscriberSchema, subscriberOf } from './subscribers.ts'

export const VERDICTS = ['block', 'redirect', 'observe', 'allow'] as const

const ListQuery = Type.Object(
  {
    ...PageQuery.properties,
    source: Type.Optional(Type.String({ maxLength: 64 })),
    policy: Type.Optional(Name),
    verdict: Type.Optional(oneOf(VERDICTS)),
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
    step: Type.Optional(StepSchema),
  },
  { additionalProperties: false },
)

export const AttemptSchema = object(
  {
    time: Time,
    source: Text,
    source_port: Type.Integer({ minimum: 0, maximum: 65_535, description: 'RFC 6302' }),
    destination: Text,
    interface: nullable(Text),
    policy: nullable(Name),
    verdict: oneOf(VERDICTS),
    because: nullable(oneOf(['relay', 'exemption'])),
    uid: nullable(Type.Integer({ description: 'of a user of the gateway itself' })),
    user: nullable(Type.String({ description: 'the name that has the uid now' })),
    mac: nullable(Text),
    subscriber: nullable(SubscriberSchema),
  },
  { title: 'Attempt', description: 'one SYN to port 25' },
)

export const attemptRoutes: Routes<Context> = (app, context) => {
  const { history, retain } = context
  app.get(
    '/v1/attempts',
    {
      schema: {
        operationId: 'listAttempts',
        summary: 'Attempts one by one, the latest first',
        tags: ['attempts'],
        querystring: ListQuery,
        response: { 200: pageOf(AttemptSchema, 'a page of attempts') },
      },
      config: { access: 'viewer', problems: ['history-unavailable'] },
    },
    ({ query }) => {
      const { source, policy, verdict, since, until } = query
      const limit = limitOf(query)
      const before = numberCursor(query)
      const found = history.log.recent({
        limit: limit + 1,
        ...(source === undefined ? {} : { source: readSource(source) }),
        ...(policy === undefined ? {} : { policy }),
        ...(verdict === undefined ? {} : { verdict }),
        ...(since === undefined ? {} : { since: readTime(since, 'since') }),
        ...(until === undefined ? {} : { until: readTime(until, 'until') }),
        ...(before === null ? {} : { before }),
      })
      const { items, next } = page(found, limit, ({ id }) => String(id))
      return { items: items.map((attempt) => attemptBody(attempt, context)), next }
    },
  )

  app.get(
    '/v1/attempts/series',
    {
      schema: {
        operationId: 'getSeries',
        summary: 'How many attempts there were over time',
        tags: ['attempts'],
        querystring: SeriesQuery,
        response: {
          200: object({ step: StepSchema, from: Time, to: Time, points: Type.Array(PointSchema) }),
        },
      },
      config: { access: 'viewer', problems: ['history-unavailable'] },
    },
    ({ query }) => {
      const { source, policy, step } = query
      if (source !== undefined && policy !== undefined)
        throw wrong('/querystring/policy', 'and source exclude each other')
      const now = Date.now()
      const span = seriesSpan(readSpan(query, now), step, { now, retain })
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

/** As it is in the log and in events, and who had the address then. */
export function attemptBody(
  attempt: RecentAttempt,
  { subscribers, users }: Pick<Context, 'subscribers' | 'users'>,
) {
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
    user: uid === null ? null : users.nameOf(uid),
    mac,
    subscriber: subscriberOf(attempt, subscribers),
  }
}

function readSource(text: string): Prefix {
  const prefix = parsePrefix(text)
  if (typeof prefix !== 'string') return prefix
  throw wrong('/querystring/source', FORMATS.prefix(text)?.message ?? prefix)
}

/** `/v1/report`: before enforcing, who would be blocked and what they look like. */
import { Type } from 'typebox'
import { SENDER_GROUPS } from '../../report/evidence.ts'
import type { Context } from '../context.ts'
import type { Routes } from '../route.ts'
import { Count, Name, nullable, object, oneOf, Text, Time } from '../schemas.ts'
import { rankingSpan, readSpan, SpanQuery, seriesSpan } from './history-query.ts'
import { SubscriberSchema } from './subscribers.ts'

const ReportSchema = object(
  {
    from: Time,
    to: Time,
    policies: Type.Array(Name, { description: 'those that observe' }),
    resolver: nullable(Text),
    truncated: Type.Boolean({ description: 'there are more machines, with fewer attempts' }),
    items: Type.Array(
      object(
        {
          source: Text,
          policy: Name,
          group: oneOf(SENDER_GROUPS),
          confidence: oneOf(['likely', 'definite']),
          reasons: Type.Array(Text),
          subscriber: nullable(SubscriberSchema),
          evidence: object({
            attempts: Count,
            destinations: Count,
            destinations_in_minute: Count,
            top_share: Type.Number({ minimum: 0, maximum: 1 }),
            tries_per_server: Type.Number({
              minimum: 0,
              description: 'on average, of the servers that are remembered',
            }),
            active_hours: Count,
            busiest_hour: Type.Integer({ minimum: 0, description: 'attempts in it' }),
            recurrence: Type.Number({
              minimum: 0,
              maximum: 1,
              description:
                'the busiest day of the quieter half of its time, as a share of the busiest day of the other',
            }),
            span_hours: Count,
            closed: Type.Integer({
              minimum: 0,
              description: 'connections ended in order: they were answered',
            }),
            segments: Type.Integer({ minimum: 0, description: 'packets with data that it sent' }),
            payload: Type.Integer({ minimum: 0, description: 'bytes in them' }),
            received_segments: Count,
            received_payload: Count,
            ptr: nullable(Text),
            name_confirmed: nullable(Type.Boolean()),
            incidents: Type.Array(Text),
            first_seen: Time,
            last_seen: Time,
          }),
        },
        { title: 'Sender', description: 'a machine that would be blocked' },
      ),
    ),
  },
  { title: 'Report', description: 'who would be blocked, if policies that observe enforced' },
)

/** By default: what a newsletter's host does each week is seen twice, and hours are remembered for no longer. */
const DEFAULT_SPAN = 14 * 86_400_000

export const reportRoutes: Routes<Pick<Context, 'reporter' | 'retain'>> = (app, { reporter, retain }) => {
  app.get(
    '/v1/report',
    {
      schema: {
        operationId: 'getReport',
        summary: 'Who would be blocked, and what they look like',
        tags: ['attempts'],
        querystring: SpanQuery,
        response: { 200: ReportSchema },
      },
      config: { access: 'viewer', problems: ['history-unavailable'] },
    },
    ({ query }) => {
      const now = Date.now()
      const from = query.from ?? new Date(Math.max(now - DEFAULT_SPAN, now - retain)).toISOString()
      const span = readSpan({ ...query, from }, now)
      return reporter.report(rankingSpan(span, now), seriesSpan(span, 'hour', { now, retain }))
    },
  )
}

/** `/v1/alerts`: what was told, what could not be, and the channels; messages can be sent once more, and channels tried. */
import { Type } from 'typebox'
import type { Alerts } from '../../alerts/alerts.ts'
import type { ChannelStatus } from '../../alerts/line.ts'
import { type Body, SEVERITIES } from '../../alerts/message.ts'
import { MESSAGE_STATES, type StoredMessage } from '../../store/alert-messages.ts'
import type { Context } from '../context.ts'
import { limitOf, numberCursor, PageQuery, page, pageOfAll } from '../http/page.ts'
import { ApiError } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Count, Name, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'
import { WebhookBodySchema } from './webhook-body.ts'

const IdParams = Type.Object({ id: Type.String({ pattern: '^[1-9][0-9]{0,14}$' }) })
const NameParams = Type.Object({ name: Type.String({ maxLength: 48, examples: ['hook'] }) })
const ListQuery = object({
  ...PageQuery.properties,
  channel: Type.Optional(Type.String({ maxLength: 48 })),
  state: Type.Optional(oneOf(MESSAGE_STATES)),
})

const AlertSchema = object(
  {
    id: Type.Integer({ minimum: 1 }),
    channel: Name,
    state: oneOf(MESSAGE_STATES, { description: 'dead: it was given up, and can be sent once more' }),
    key: Type.String({ description: 'the same for every try' }),
    event: Text,
    severity: oneOf(SEVERITIES),
    subject: nullable(Text),
    time: Time,
    created: Time,
    tries: Count,
    next_try: nullable(Time),
    settled: nullable(Time),
    error: nullable(Type.String({ description: 'why it did not arrive the last time' })),
    incidents: Type.Array(Text, { description: 'the incidents that it tells of, at most 100 of them' }),
  },
  { title: 'Alert', description: 'a message to a channel' },
)

const WholeAlertSchema = object(
  {
    ...AlertSchema.properties,
    incidents: Type.Array(Text),
    lines: Type.Array(Text),
    body: Type.Unsafe<Body>(WebhookBodySchema),
  },
  { title: 'WholeAlert', description: 'a message with all that it says' },
)

const ChannelSchema = object(
  {
    name: Name,
    type: Text,
    queued: Type.Integer({ minimum: 0, description: 'news that is in no message yet' }),
    held: Type.Integer({ minimum: 0, description: 'of it, what is held back for a digest' }),
    waiting: Type.Integer({ minimum: 0, description: 'messages that have not arrived yet' }),
    dead: Count,
    dropped: Type.Integer({ minimum: 0, description: 'news thrown away for want of room' }),
    failures: Type.Integer({ minimum: 0, description: 'since a message arrived last' }),
    paused_until: nullable(Time),
    error: nullable(Type.String({ description: 'of the latest failure since a message arrived last' })),
  },
  { title: 'Channel', description: 'how a channel fares' },
)

const TestedSchema = object({ delivered: Type.Boolean(), milliseconds: Count, error: nullable(Text) })

const MOST_INCIDENTS = 100

export const alertRoutes: Routes<Context> = (app, { alerts }) => {
  app.get(
    '/v1/alerts',
    {
      schema: {
        operationId: 'listAlerts',
        summary: 'Messages to channels, the latest first',
        tags: ['alerts'],
        querystring: ListQuery,
        response: { 200: pageOf(AlertSchema, 'a page of messages') },
      },
      config: { access: 'viewer' },
    },
    ({ query }) => {
      const limit = limitOf(query)
      const before = numberCursor(query)
      const { channel, state } = query
      const found = alerts.list({
        limit: limit + 1,
        ...(channel === undefined ? {} : { channel }),
        ...(state === undefined ? {} : { state }),
        ...(before === null ? {} : { before }),
      })
      const { items, next } = page(found, limit, ({ id }) => String(id))
      return { items: items.map((one) => alertBody(one, alerts)), next }
    },
  )

  app.get(
    '/v1/alerts/channels',
    {
      schema: {
        operationId: 'listChannels',
        summary: 'How the channels fare',
        tags: ['alerts'],
        querystring: PageQuery,
        response: { 200: pageOf(ChannelSchema, 'a page of channels') },
      },
      config: { access: 'viewer' },
    },
    ({ query }) => pageOfAll(alerts.status().map(channelBody), query),
  )

  app.get(
    '/v1/alerts/:id',
    {
      schema: {
        operationId: 'getAlert',
        summary: 'One message, with all that it says',
        tags: ['alerts'],
        params: IdParams,
        response: { 200: WholeAlertSchema },
      },
      config: { access: 'viewer', problems: ['not-found'] },
    },
    ({ params }) => {
      const found = alerts.get(Number(params.id))
      if (found === null) throw new ApiError('not-found', `there is no alert ${params.id}`)
      const lines = alerts.composed(found)?.text.lines ?? []
      return {
        ...alertBody(found, alerts),
        incidents: found.incidents,
        lines,
        body: JSON.parse(found.body) as Body,
      }
    },
  )

  app.post(
    '/v1/alerts/:id/resend',
    {
      schema: {
        operationId: 'resendAlert',
        summary: 'Send a message once more',
        tags: ['alerts'],
        params: IdParams,
        response: { 200: AlertSchema },
      },
      config: { access: 'operator', problems: ['not-found'] },
    },
    ({ params }) => {
      const found = alerts.resend(Number(params.id))
      if (found === null)
        throw new ApiError('not-found', `there is no alert ${params.id} to a channel that exists`)
      return alertBody(found, alerts)
    },
  )

  app.post(
    '/v1/alerts/channels/:name/resend',
    {
      schema: {
        operationId: 'resendDeadAlerts',
        summary: 'Send all messages once more that were given up',
        tags: ['alerts'],
        params: NameParams,
        response: { 200: object({ resent: Count }) },
      },
      config: { access: 'operator', problems: ['not-found'] },
    },
    ({ params }) => {
      const resent = alerts.resendDead(params.name)
      if (resent === null) throw new ApiError('not-found', `there is no channel ${params.name}`)
      return { resent }
    },
  )

  app.post(
    '/v1/alerts/channels/:name/test',
    {
      schema: {
        operationId: 'testChannel',
        summary: 'Send a test at once, past everything that waits, and say whether it arrived',
        tags: ['alerts'],
        params: NameParams,
        response: { 200: TestedSchema },
      },
      config: { access: 'operator', problems: ['not-found'] },
    },
    async ({ params }) => {
      const tested = await alerts.test(params.name)
      if (tested === null) throw new ApiError('not-found', `there is no channel ${params.name}`)
      return { ...tested, error: tested.delivered ? null : tested.error }
    },
  )
}

function alertBody(stored: StoredMessage, alerts: Alerts) {
  const { id, channel, state, key, time, created, tries, nextTry, settled, error, incidents } = stored
  const { event, severity } = JSON.parse(stored.body) as Body
  return {
    id,
    channel,
    state,
    key,
    event,
    severity,
    subject: alerts.composed(stored)?.text.subject ?? null,
    time: new Date(time).toISOString(),
    created: new Date(created).toISOString(),
    tries,
    next_try: state === 'waiting' && nextTry > 0 ? new Date(nextTry).toISOString() : null,
    settled: settled === null ? null : new Date(settled).toISOString(),
    error,
    incidents: incidents.slice(0, MOST_INCIDENTS),
  }
}

function channelBody({ pausedUntil, ...rest }: ChannelStatus) {
  return { ...rest, paused_until: pausedUntil === null ? null : new Date(pausedUntil).toISOString() }
}

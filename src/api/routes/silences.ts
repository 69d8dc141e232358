/** `/v1/silences`: what is not told for a while. */
import { randomUUID } from 'node:crypto'
import { Type } from 'typebox'
import type { Silence } from '../../alerts/planning/silence.ts'
import { type KnownSilence, TooManySilencesError } from '../../alerts/planning/silences.ts'
import { INCIDENT_KINDS } from '../../detect/incident.ts'
import { FORMATS, parseDuration, parseTimestamp, quote } from '../../policy/formats.ts'
import { formatPrefix, type Prefix, parsePrefix } from '../../policy/prefix.ts'
import type { Context } from '../context.ts'
import { PageQuery, pageOfAll } from '../http/page.ts'
import { ApiError, wrong } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Name, nullable, object, oneOf, pageOf, Text, Time } from '../schemas.ts'

const MOST = 1_000
const names = Type.Optional(Type.Array(Name, { maxItems: MOST }))

const NewSilenceSchema = object(
  {
    until: Type.Optional(Type.String({ maxLength: 40, description: 'RFC 3339; or `for`' })),
    for: Type.Optional(Type.String({ maxLength: 12, description: 'a duration such as 2h; or `until`' })),
    from: Type.Optional(Type.String({ maxLength: 40, description: 'RFC 3339; now when absent' })),
    channels: names,
    kinds: Type.Optional(Type.Array(oneOf(INCIDENT_KINDS), { maxItems: 5 })),
    policies: names,
    networks: Type.Optional(Type.Array(Type.String({ maxLength: 50 }), { maxItems: MOST })),
    reason: Type.Optional(Type.String({ maxLength: 500 })),
  },
  { title: 'NewSilence', examples: [{ for: '2h', policies: ['residential'], reason: 'Maintenance.' }] },
)

const SilenceSchema = object(
  {
    id: Text,
    from: Time,
    until: Time,
    channels: Type.Array(Text),
    kinds: Type.Array(oneOf(INCIDENT_KINDS)),
    policies: Type.Array(Text),
    networks: Type.Array(Text),
    reason: nullable(Text),
    by: Text,
    configured: Type.Boolean({ description: 'only the configuration can end it' }),
    silenced: Type.Integer({ minimum: 0, description: 'news that was not told because of it' }),
  },
  { title: 'Silence', description: 'news that is not told for a while; it is counted, and in the incidents' },
)

const IdParams = Type.Object({ id: Type.String({ maxLength: 64 }) })

export const silenceRoutes: Routes<Context> = (app, { alerts: { silences } }) => {
  const bodyOf = (id: string) => {
    const found = silences.get(id)
    if (found === null) throw new ApiError('not-found', `there is no silence ${id}`)
    return silenceBody(found)
  }

  app.get(
    '/v1/silences',
    {
      schema: {
        operationId: 'listSilences',
        summary: 'Silences, also those that are over',
        tags: ['alerts'],
        querystring: PageQuery,
        response: { 200: pageOf(SilenceSchema, 'a page of silences') },
      },
      config: { access: 'viewer' },
    },
    ({ query }) => pageOfAll(silences.list().map(silenceBody), query),
  )

  app.post(
    '/v1/silences',
    {
      schema: {
        operationId: 'addSilence',
        summary: 'Tell nothing of this for a while',
        tags: ['alerts'],
        body: NewSilenceSchema,
        response: { 201: SilenceSchema },
      },
      config: { access: 'operator' },
    },
    async ({ body, caller }, reply) => {
      const now = Date.now()
      const from = body.from === undefined ? now : timeOf(body.from, '/from')
      const until = endOf(body, from)
      if (until <= now || until <= from)
        throw wrong('/until', 'the end must be in the future, and after the start')
      const { channels = [], kinds = [], policies = [], networks = [], reason = null } = body
      const silence: Silence = {
        id: randomUUID(),
        from,
        until,
        channels,
        concern: { kinds, policies, networks: networks.map(prefixOf) },
        everything: kinds.length + policies.length + networks.length === 0,
        reason,
        by: caller.name,
      }
      try {
        silences.add(silence)
      } catch (error) {
        if (error instanceof TooManySilencesError) throw new ApiError('bad-request', error.message)
        throw error
      }
      return reply.code(201).send(bodyOf(silence.id))
    },
  )

  app.delete(
    '/v1/silences/:id',
    {
      schema: {
        operationId: 'endSilence',
        summary: 'End a silence now',
        tags: ['alerts'],
        params: IdParams,
        response: { 200: SilenceSchema },
      },
      config: { access: 'operator', problems: ['not-found'] },
    },
    ({ params: { id } }) => {
      if (silences.end(id, Date.now()) === null) {
        const isThere = silences.get(id) !== null
        throw new ApiError(
          'not-found',
          isThere ? `the silence ${id} is in the configuration; end it there` : `there is no silence ${id}`,
        )
      }
      return bodyOf(id)
    },
  )
}

function endOf(body: { readonly until?: string; readonly for?: string }, from: number): number {
  if (body.until !== undefined && body.for === undefined) return timeOf(body.until, '/until')
  if (body.until !== undefined || body.for === undefined)
    throw wrong('/for', '(a duration such as 2h) or until (a time) must be given, and not both')
  const span = parseDuration(body.for)
  if (span === null) throw wrong('/for', `${quote(body.for)} is no duration such as 2h`)
  return from + span
}

function timeOf(text: string, pointer: string): number {
  const time = parseTimestamp(text)
  if (time === null) throw wrong(pointer, 'a time is written as RFC 3339 does: 2026-12-31T00:00:00Z')
  return time
}

function prefixOf(text: string, index: number): Prefix {
  const prefix = parsePrefix(text)
  if (typeof prefix === 'string') throw wrong(`/networks/${index}`, FORMATS.prefix(text)?.message ?? prefix)
  return prefix
}

function silenceBody({
  id,
  from,
  until,
  channels,
  concern,
  reason,
  by,
  isConfigured,
  silenced,
}: KnownSilence) {
  return {
    id,
    from: new Date(from).toISOString(),
    until: new Date(until).toISOString(),
    channels,
    kinds: concern.kinds,
    policies: concern.policies,
    networks: concern.networks.map(formatPrefix),
    reason,
    by,
    configured: isConfigured,
    silenced,
  }
}

/**
 * What a webhook posts, and a program of the operator reads: one of a few bodies, which `event` tells apart. The schema is
 * published in docs/webhook.schema.json and at `/webhook.schema.json`, open to fields that come later.
 */
import { type TProperties, type TSchema, Type } from 'typebox'
import { HELD_BECAUSE, SEVERITIES, SINGLE_EVENTS } from '../../alerts/message.ts'
import { INCIDENT_KINDS } from '../../detect/incident.ts'
import type { Routes } from '../route.ts'
import { Count, counts, nullable, object, oneOf, Text, Time } from '../schemas.ts'
import { IncidentSchema } from './incidents.ts'

const about = (title: string, events: readonly string[], properties: TProperties) =>
  object(
    {
      event: oneOf(events),
      gateway: Text,
      time: Time,
      severity: oneOf(SEVERITIES),
      ...properties,
    },
    { title },
  )

const { incident, exemption, drift, preflight } = SINGLE_EVENTS

const IncidentNews = about('IncidentNews', incident, {
  incident: IncidentSchema,
  network: nullable(
    Type.String({ description: 'of the policy, that the machine is in; null: nobody knows (any more)' }),
  ),
  occurrence: Type.Integer({
    minimum: 1,
    description: 'which incident of this machine it is within `alert_escalation.within`',
  }),
})

const ExemptionNews = about('ExemptionNews', exemption, {
  exemption: object({
    name: Text,
    expires: nullable(Type.String({ description: 'RFC 3339; null: it had no end' })),
    owner: nullable(Text),
    ticket: nullable(Text),
    reason: nullable(Text),
    sources: Type.Array(Text, { maxItems: 100 }),
    more_sources: Type.Optional(
      Type.Integer({ minimum: 1, description: 'how many there are beside those that are named' }),
    ),
  }),
  incident: Type.Optional(Type.String({ description: 'for which it was revoked: its id' })),
})

const DriftNews = about('DriftNews', drift, {
  by: nullable(
    object(
      { pid: Count, program: Text, what: Text, damage: oneOf(['rules', 'everything']) },
      { description: 'who changed our table first; null: nobody knows, or it is over' },
    ),
  ),
  heal_in_ms: Type.Optional(Count),
})

const PreflightNews = about('PreflightNews', preflight, {
  preflight: object({ code: Text, message: Text }),
})

const DigestNews = about('DigestNews', ['digest'], {
  digest: object({
    because: Type.Array(oneOf(HELD_BECAUSE)),
    since: Time,
    until: Time,
    news: Type.Integer({ minimum: 0, description: 'how much news it tells' }),
    machines: Count,
    attempts: Count,
    by_event: counts(Object.values(SINGLE_EVENTS).flat()),
    by_kind: counts(INCIDENT_KINDS),
    by_network: Type.Array(object({ network: Text, machines: Count }), { maxItems: 10 }),
    worst: Type.Array(IncidentSchema, { maxItems: 10 }),
    others: Type.Array(Type.Union([ExemptionNews, DriftNews, PreflightNews]), { maxItems: 10 }),
    dropped: Type.Integer({
      minimum: 0,
      description: 'news that was thrown away because the channel could not be reached for too long',
    }),
  }),
})

const TestNews = about('TestNews', ['test'], {})

export const WebhookBodySchema = Type.Union(
  [IncidentNews, DigestNews, ExemptionNews, DriftNews, PreflightNews, TestNews],
  { title: 'WebhookBody', description: 'what a webhook posts; `event` says which of them' },
)

type Json = Readonly<Record<string, unknown>>

/**
 * As JSON Schema 2020-12. With `closed`, fields that it does not name are faults: for those who want to know that it
 * names all there are. Receivers ignore what they do not know.
 */
export function webhookJsonSchema({ closed = false } = {}): Json {
  const definitions: Record<string, unknown> = {}
  const walk = (value: unknown, isRoot = false): unknown => {
    if (Array.isArray(value)) return value.map((one) => walk(one))
    if (typeof value !== 'object' || value === null) return value
    const walked = Object.fromEntries(
      Object.entries(value)
        .filter(([key, one]) => closed || key !== 'additionalProperties' || one !== false)
        .map(([key, one]) => [key, key === 'examples' ? one : walk(one)]),
    )
    const { title } = walked
    if (isRoot || typeof title !== 'string') return walked
    definitions[title] = walked
    return { $ref: `#/$defs/${title}` }
  }
  const { anyOf, ...root } = walk(WebhookBodySchema satisfies TSchema, true) as Json
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    ...root,
    title: 'A webhook of egress25',
    oneOf: anyOf,
    $defs: definitions,
  }
}

export const webhookBodyRoutes: Routes<unknown> = (app) => {
  const text = `${JSON.stringify(webhookJsonSchema(), null, 2)}\n`
  app.get(
    '/webhook.schema.json',
    {
      schema: {
        operationId: 'getWebhookSchema',
        summary: 'The JSON Schema of what webhooks post',
        tags: ['alerts'],
        response: { 200: {} },
      },
      config: { access: 'public' },
    },
    (_, reply) => reply.type('application/json').send(text),
  )
}

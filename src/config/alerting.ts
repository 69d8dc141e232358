/** `alert_texts`, `alert_silences` and `alert_escalation`: what holds for all channels. */
import { type Static, Type } from 'typebox'
import type { AlertingConfig } from '../alerts/alerts-config.ts'
import type { Silence } from '../alerts/planning/silence.ts'
import { INCIDENT_KINDS, type IncidentKind } from '../detect/incident.ts'
import { parseDuration, parseTimestamp } from '../policy/formats.ts'
import { parsePrefix } from '../policy/prefix.ts'

const section = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Optional(Type.Object(properties, { additionalProperties: false }))
const text = (format: string, maxLength = 500) => Type.String({ format, minLength: 1, maxLength })
const list = (format: string) => Type.Optional(Type.Array(text(format, 50), { maxItems: 1_000 }))

const SilenceSchema = Type.Object(
  {
    name: text('name', 48),
    from: text('timestamp'),
    until: text('timestamp'),
    channels: list('name'),
    kinds: Type.Optional(Type.Array(Type.Enum([...INCIDENT_KINDS]), { maxItems: 5 })),
    policies: list('name'),
    networks: list('prefix'),
    reason: Type.Optional(text('text')),
  },
  { additionalProperties: false },
)

export const ALERTING_SECTIONS = {
  alert_texts: section({
    directory: Type.Optional(text('absolute-path')),
    zone: Type.Optional(text('time-zone', 50)),
    contact: Type.Optional(text('text')),
  }),
  alert_escalation: section({
    incidents: Type.Optional(Type.Integer({ minimum: 2, maximum: 1_000 })),
    within: Type.Optional(text('duration')),
  }),
  alert_silences: Type.Optional(Type.Array(SilenceSchema, { maxItems: 100 })),
}

const Sections = Type.Object(ALERTING_SECTIONS)

export function buildAlerting({
  alert_texts: texts = {},
  alert_escalation: escalation = {},
  alert_silences: silences = [],
}: Static<typeof Sections>): AlertingConfig {
  return {
    textDirectory: texts.directory ?? null,
    zone: texts.zone ?? 'UTC',
    contact: texts.contact ?? null,
    escalation: {
      incidents: escalation.incidents ?? 3,
      within: parseDuration(escalation.within ?? '30d') ?? 0,
    },
    silences: silences.map(buildSilence),
  }
}

function buildSilence(written: Static<typeof SilenceSchema>): Silence {
  const { name, from, until, channels = [], kinds = [], policies = [], networks = [], reason } = written
  return {
    id: name,
    from: parseTimestamp(from) ?? 0,
    until: parseTimestamp(until) ?? 0,
    channels,
    concern: {
      kinds: kinds as IncidentKind[],
      policies,
      networks: networks.flatMap((network) => {
        const prefix = parsePrefix(network)
        return typeof prefix === 'string' ? [] : [prefix]
      }),
    },
    everything: kinds.length + policies.length + networks.length === 0,
    reason: reason ?? null,
    by: 'configuration',
  }
}

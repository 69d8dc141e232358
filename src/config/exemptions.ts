/** `exemptions`: how their ends are announced, who may approve them, and what becomes of them when a host turns bad. */
import { type Static, Type } from 'typebox'
import { parseDuration } from '../policy/formats.ts'

export const ExemptionsSchema = Type.Object(
  {
    announce: Type.Optional(
      Type.Array(Type.String({ format: 'duration', minLength: 1, maxLength: 500 }), { maxItems: 16 }),
    ),
    four_eyes: Type.Optional(Type.Boolean()),
    on_anomaly: Type.Optional(Type.Enum(['report', 'revoke'])),
  },
  { additionalProperties: false },
)

export interface Lead {
  /** As it is written, such as `7d`. */
  readonly text: string
  readonly milliseconds: number
}

export interface ExemptionsConfig {
  /** How long before their end exemptions are announced, the longest first. */
  readonly announce: readonly Lead[]
  /** Whether somebody else than the one who asked must approve. */
  readonly fourEyes: boolean
  /** What becomes of an exemption when a host that it covers is said to be a spam-bot. */
  readonly onAnomaly: 'report' | 'revoke'
}

export function buildExemptions(written: Static<typeof ExemptionsSchema>): ExemptionsConfig {
  return {
    announce: buildLeads(written.announce ?? ['7d', '1d']),
    fourEyes: written.four_eyes ?? false,
    onAnomaly: written.on_anomaly === 'revoke' ? 'revoke' : 'report',
  }
}

/** The same span written in two ways is one. */
function buildLeads(durations: readonly string[]): Lead[] {
  const leads = new Map(durations.map((text) => [parseDuration(text) ?? 0, text]))
  return [...leads]
    .map(([milliseconds, text]) => ({ text, milliseconds }))
    .sort((a, b) => b.milliseconds - a.milliseconds)
}

/** `alerts`: the channels, each with the fields of its type and those that all of them have. */
import { type Static, type TSchema, Type } from 'typebox'
import type { ChannelConfig } from '../alerts/alerts-config.ts'
import { CHANNEL_TYPES } from '../alerts/channel-types.ts'
import { SEVERITIES, type Severity, TOPICS, type Topic } from '../alerts/message.ts'
import type { Handling, Routing } from '../alerts/planning/handling.ts'
import { parseLimit } from '../alerts/planning/message-limit.ts'
import { isMailAddress } from '../alerts/transport/submission-fields.ts'
import { INCIDENT_KINDS, type IncidentKind } from '../detect/incident.ts'
import type { Problem } from '../policy/diagnostic.ts'
import { type Fault, parseDuration, parseRate, quote } from '../policy/formats.ts'
import { parsePrefix } from '../policy/prefix.ts'

const list = (items: TSchema) => Type.Optional(Type.Array(items, { maxItems: 1_000 }))
const text = (format: string, maxLength = 50) => Type.String({ format, minLength: 1, maxLength })

const COMMON = {
  name: text('name', 48),
  min_severity: Type.Optional(Type.Enum([...SEVERITIES])),
  about: list(Type.Enum([...TOPICS])),
  kinds: list(Type.Enum([...INCIDENT_KINDS])),
  policies: list(text('name', 48)),
  networks: list(text('prefix')),
  limit: Type.Optional(text('rate-or-none')),
  group: Type.Optional(
    Type.Object(
      {
        by: Type.Optional(Type.Array(Type.Enum(['policy', 'network', 'kind']), { maxItems: 3 })),
        first: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000 })),
        wait: Type.Optional(text('duration')),
      },
      { additionalProperties: false },
    ),
  ),
  quiet_hours: Type.Optional(
    Type.Object(
      {
        from: text('clock'),
        to: text('clock'),
        zone: Type.Optional(text('time-zone')),
        except: Type.Optional(Type.Enum([...SEVERITIES, 'none'])),
      },
      { additionalProperties: false },
    ),
  ),
  remind: Type.Optional(text('duration-or-never')),
  give_up: Type.Optional(text('duration')),
  timeout: Type.Optional(text('duration')),
  parallel: Type.Optional(Type.Integer({ minimum: 1, maximum: 64 })),
  language: Type.Optional(text('language')),
}
const CommonSchema = Type.Object(COMMON)
type Common = Static<typeof CommonSchema>

/** One schema for each type; `type` says which holds. */
const ChannelSchema = Type.Union(
  CHANNEL_TYPES.map(({ type, fields }) =>
    Type.Object({ ...COMMON, type: Type.Literal(type), ...fields }, { additionalProperties: false }),
  ),
  { discriminator: { propertyName: 'type' } },
)

export const AlertsSchema = Type.Optional(Type.Array(ChannelSchema, { maxItems: 32 }))

export const ALERT_FORMATS = {
  'rate-or-none': (value: string) =>
    value === 'none' || parseRate(value) !== null
      ? null
      : fault(`${quote(value)} is neither a rate such as 10/minute nor none`),
  'mail-address': (value: string) =>
    isMailAddress(value)
      ? null
      : fault(`${quote(value)} is no mail address: write one such as noc@example.net`),
  'duration-or-never': (value: string) =>
    value === 'never' || parseDuration(value) !== null
      ? null
      : fault(`${quote(value)} is neither a duration such as 24h nor never`),
  clock: (value: string) =>
    parseClock(value) === null ? fault(`${quote(value)} is no time of day: write 22:00, in quotes`) : null,
  'time-zone': (value: string) =>
    isTimeZone(value) ? null : fault(`${quote(value)} is no time zone: write one such as Europe/Berlin`),
  language: (value: string) =>
    /^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$/.test(value)
      ? null
      : fault(`${quote(value)} is no language: write one such as en or de`),
} as const

type Written = Common & { readonly type: string } & Readonly<Record<string, unknown>>

/** What the schema cannot say, of entries that fit it; pointers are within `alerts`. */
export function alertProblems(written: readonly unknown[]): Problem[] {
  const names = new Set<string>()
  return (written as readonly Written[]).flatMap((entry, index): Problem[] => {
    const problems: Problem[] = []
    if (names.has(entry.name)) {
      const message = `another channel is called ${entry.name}`
      problems.push({ pointer: `/${index}/name`, code: 'duplicate-name', message })
    }
    names.add(entry.name)
    const said = typeOf(entry.type)?.fault?.(ownFields(entry)) ?? null
    if (said !== null) problems.push({ pointer: `/${index}`, code: 'bad-value', message: said })
    return problems
  })
}

/** From entries without problems. */
export function buildAlerts(written: readonly unknown[]): ChannelConfig[] {
  return (written as readonly Written[]).map((entry) => ({
    name: entry.name,
    type: entry.type,
    routing: buildRouting(entry),
    handling: buildHandling(entry),
    fields: ownFields(entry),
  }))
}

function buildRouting({ min_severity, about, kinds, policies, networks }: Common): Routing {
  return {
    minSeverity: (min_severity as Severity | undefined) ?? 'info',
    about: (about ?? []) as Topic[],
    kinds: (kinds ?? []) as IncidentKind[],
    policies: (policies ?? []) as string[],
    networks: ((networks ?? []) as string[]).flatMap((network) => {
      const prefix = parsePrefix(network)
      return typeof prefix === 'string' ? [] : [prefix]
    }),
  }
}

function buildHandling({ type, ...entry }: Written): Handling {
  const defaults = typeOf(type)?.defaults ?? {}
  const { by, first, wait } = entry.group ?? {}
  const quiet = entry.quiet_hours
  const except = quiet?.except ?? 'critical'
  return {
    limit: parseLimit(entry.limit ?? defaults.limit ?? '10/minute'),
    group: {
      by: (by as Handling['group']['by'] | undefined) ?? ['network', 'kind'],
      first: first ?? 3,
      wait: parseDuration(wait ?? '1m') ?? 0,
    },
    quietHours:
      quiet === undefined
        ? null
        : {
            from: parseClock(quiet.from) ?? 0,
            to: parseClock(quiet.to) ?? 0,
            zone: quiet.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
            except: except === 'none' ? null : (except as Severity),
          },
    remind: parseDuration(entry.remind ?? defaults.remind ?? '24h'),
    giveUp: parseDuration(entry.give_up ?? '3d') ?? 0,
    timeout: parseDuration(entry.timeout ?? '10s') ?? 0,
    parallel: entry.parallel ?? defaults.parallel ?? 4,
    language: entry.language ?? 'en',
  }
}

function ownFields({ type, ...entry }: Written): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(entry).filter(([key]) => !Object.hasOwn(COMMON, key)))
}

function typeOf(type: string) {
  return CHANNEL_TYPES.find((one) => one.type === type)
}

/** Minutes since midnight of `HH:MM`. */
function parseClock(value: string): number | null {
  const [, hours, minutes] = /^([01]\d|2[0-3]):([0-5]\d)$/.exec(value) ?? []
  return hours === undefined ? null : Number(hours) * 60 + Number(minutes)
}

function isTimeZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone })
    return true
  } catch {
    return false
  }
}

function fault(message: string): Fault {
  return { code: 'bad-value', message }
}

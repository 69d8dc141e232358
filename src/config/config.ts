/** The gateway's own configuration: one file per machine. */
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { type Static, Type } from 'typebox'
import type { AlertingConfig, ChannelConfig } from '../alerts/alerts-config.ts'
import { type CompileOptions, DEFAULT_COMPILE_OPTIONS } from '../compile/options.ts'
import { ConfigError } from '../config-error.ts'
import type { PoliciesConfig } from '../history/policies-config.ts'
import { diagnostic, type Problem } from '../policy/diagnostic.ts'
import { FORMATS, parseDuration, quote } from '../policy/formats.ts'
import { checkShape } from '../policy/shape.ts'
import { parseYaml } from '../policy/yaml-source.ts'
import type { SubscriberSource } from '../subscribers/subscriber-source.ts'
import { ALERTING_SECTIONS, buildAlerting } from './alerting.ts'
import { ALERT_FORMATS, AlertsSchema, alertProblems, buildAlerts } from './alerts.ts'
import {
  API_FORMATS,
  type ApiConfig,
  ApiSchema,
  apiProblems,
  buildApi,
  type Listen,
  withSocket,
} from './api.ts'
import { buildExemptions, type ExemptionsConfig, ExemptionsSchema } from './exemptions.ts'
import { buildPolicies, POLICIES_FORMATS, PoliciesSchema, policiesProblems } from './policies.ts'
import { buildReport, REPORT_FORMATS, type ReportConfig, ReportSchema } from './report.ts'
import { buildSubscribers, SubscribersSchema, subscriberProblems } from './subscribers.ts'

export type { Listen } from './api.ts'

export const DEFAULT_CONFIG_FILE = '/etc/egress25/egress25.yaml'

const section = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Optional(Type.Object(properties, { additionalProperties: false }))
const text = (format: string, maxLength = 500) => Type.String({ format, minLength: 1, maxLength })

const ConfigSchema = Type.Object(
  {
    gateway: Type.Optional(text('text', 100)),
    policies: Type.Optional(PoliciesSchema),
    firewall: section({
      hooks: Type.Optional(Type.Array(Type.Enum(['forward', 'output']), { minItems: 1, maxItems: 2 })),
      outside_interfaces: Type.Optional(Type.Array(text('interface', 15), { maxItems: 64 })),
      nflog_group: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
      priority: Type.Optional(Type.Integer({ minimum: -400, maximum: 400 })),
      tracked_sources: Type.Optional(Type.Integer({ minimum: 16, maximum: 4_194_304 })),
    }),
    api: ApiSchema,
    state: section({
      directory: Type.Optional(text('absolute-path')),
      retain: Type.Optional(text('duration')),
      retain_detail: Type.Optional(text('duration')),
      retain_subscribers: Type.Optional(text('duration')),
    }),
    exemptions: Type.Optional(ExemptionsSchema),
    subscribers: Type.Optional(SubscribersSchema),
    report: Type.Optional(ReportSchema),
    alerts: AlertsSchema,
    ...ALERTING_SECTIONS,
  },
  { additionalProperties: false },
)

export interface Config {
  readonly gateway: string
  readonly policyDirectory: string
  readonly policies: PoliciesConfig
  readonly compile: CompileOptions
  readonly api: ApiConfig
  /** With a socket for the command, also where none is configured. */
  readonly listen: readonly Listen[]
  readonly stateDirectory: string
  /** Milliseconds after which a resolved incident is forgotten (RFC 6561 §5: no longer than it is needed). */
  readonly retain: number
  /** The same for single attempts; their sums are kept as long as incidents are. */
  readonly retainDetail: number
  readonly exemptions: ExemptionsConfig
  /** The same for who had an address, also in incidents. */
  readonly retainSubscribers: number
  readonly channels: readonly ChannelConfig[]
  /** What names the machine behind an address; the first that knows counts. */
  readonly subscribers: readonly SubscriberSource[]
  readonly report: ReportConfig
  readonly alerting: AlertingConfig
}

const CONFIG_FORMATS = {
  ...FORMATS,
  ...POLICIES_FORMATS,
  ...ALERT_FORMATS,
  ...REPORT_FORMATS,
  ...API_FORMATS,
  'absolute-path': (value: string) =>
    fault(value.startsWith('/'), `${quote(value)} must be an absolute path`),
  interface: (value: string) =>
    fault(/^[a-zA-Z0-9_.:-]{1,15}$/.test(value), `${quote(value)} is no name of a network interface`),
  'http-url': (value: string) =>
    fault(
      URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
      `${quote(value)} is not an http(s) URL`,
    ),
}

/**
 * Reads the file. Without a file at the default place the defaults hold.
 * @throws ConfigError
 */
export async function readConfig(file: string | null): Promise<Config> {
  const path = file ?? DEFAULT_CONFIG_FILE
  let written: string
  try {
    written = await readFile(path, 'utf8')
  } catch (error) {
    if (file === null && (error as NodeJS.ErrnoException).code === 'ENOENT') return build({})
    throw new ConfigError(`cannot read the configuration ${path}: ${(error as Error).message}`)
  }
  return parseConfig(path, written)
}

/** @throws ConfigError with every mistake in the text */
export function parseConfig(path: string, written: string): Config {
  const { documents, diagnostics } = parseYaml(path, written)
  const [document, second] = documents
  const found = [...diagnostics]
  if (second !== undefined)
    found.push(diagnostic(second.origin, 'not-a-document', 'one document is enough here'))
  const problems = checkShape(ConfigSchema, document?.value ?? {}, CONFIG_FORMATS)
  const {
    alerts = [],
    api = {},
    policies = {},
    subscribers = [],
  } = (document?.value ?? {}) as Static<typeof ConfigSchema>
  const within = (section: string, more: () => Problem[]) => {
    if (problems.some(({ pointer }) => pointer.startsWith(section))) return
    problems.push(...more().map((one) => ({ ...one, pointer: section + one.pointer })))
  }
  within('/policies', () => policiesProblems(policies))
  within('/alerts', () => alertProblems(alerts))
  within('/api', () => apiProblems(api))
  within('/subscribers', () => subscriberProblems(subscribers))
  for (const { code, message, ...place } of problems) {
    const origin = document?.locate(place) ?? { file: path, line: 1, column: 1 }
    found.push(diagnostic(origin, code, message))
  }
  if (found.length > 0) throw new ConfigError(`the configuration ${path} has mistakes`, found)
  return build((document?.value ?? {}) as Static<typeof ConfigSchema>)
}

function build(written: Static<typeof ConfigSchema>): Config {
  const { gateway, policies, firewall, api, state, exemptions, alerts, subscribers, report } = written
  const stateDirectory = state?.directory ?? '/var/lib/egress25'
  return {
    gateway: gateway ?? hostname(),
    policyDirectory: buildPolicies(policies ?? {}).directory,
    policies: buildPolicies(policies ?? {}),
    compile: {
      hooks: (firewall?.hooks as CompileOptions['hooks'] | undefined) ?? DEFAULT_COMPILE_OPTIONS.hooks,
      outsideInterfaces: firewall?.outside_interfaces ?? [],
      nflogGroup: firewall?.nflog_group ?? DEFAULT_COMPILE_OPTIONS.nflogGroup,
      priority: firewall?.priority ?? DEFAULT_COMPILE_OPTIONS.priority,
      trackedSources: firewall?.tracked_sources ?? DEFAULT_COMPILE_OPTIONS.trackedSources,
      uids: new Map(),
    },
    api: buildApi(api),
    listen: withSocket(buildApi(api).listen, stateDirectory),
    stateDirectory,
    retain: parseDuration(state?.retain ?? '90d') ?? 0,
    retainDetail: parseDuration(state?.retain_detail ?? '1d') ?? 0,
    exemptions: buildExemptions(exemptions ?? {}),
    retainSubscribers: parseDuration(state?.retain_subscribers ?? state?.retain ?? '90d') ?? 0,
    channels: buildAlerts(alerts ?? []),
    subscribers: buildSubscribers(subscribers ?? []),
    report: buildReport(report ?? {}),
    alerting: buildAlerting(written),
  }
}

function fault(isFine: boolean, message: string) {
  return isFine ? null : ({ code: 'bad-value', message } as const)
}

/**
 * The schemas of the documents as JSON Schema (draft 2020-12) for editors: what `check` knows, and beside it what
 * helps somebody who is writing. Only keywords of the standard, which every editor and every strict validator knows.
 *
 * The formats of our own become patterns; what a pattern cannot say (host bits, a day that the month lacks) is left
 * to `check`.
 */
import type { Format } from './formats.ts'
import { DEFAULT_THRESHOLDS } from './model.ts'
import { NAME_PATTERN } from './name.ts'
import { DOCUMENT_SCHEMAS, KINDS, type Kind } from './schema.ts'

const ADDRESS = '[0-9a-fA-F:.]{2,45}'
const PREFIX = `${ADDRESS}(/[0-9]{1,3})?`

const PATTERNS: Readonly<Record<Format, string>> = {
  name: `^${NAME_PATTERN}$`,
  text: '^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f]*$',
  address: `^${ADDRESS}$`,
  prefix: `^${PREFIX}$`,
  'prefix-or-list': `^(${PREFIX}|@${NAME_PATTERN})$`,
  duration: '^[1-9][0-9]{0,8}[smhd]$',
  rate: '^[1-9][0-9]{0,6}/(second|minute|hour|day)$',
  timestamp: '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.0+)?(Z|[+-][0-9]{2}:[0-9]{2})$',
  user: '^[a-z_][a-z0-9_-]{0,31}$',
  'relative-path': '^(?!(.*/)?\\.\\.(/|$))[^/\\\\][^\\\\]*$',
}

/** What an editor shows beside a field's description. */
interface Help {
  readonly title: string
  /** Where the schema itself has none. */
  readonly description?: string
  /** What holds when the field is absent. */
  readonly default?: unknown
  readonly examples?: readonly unknown[]
  /** Each of the values that the field takes, in words. */
  readonly choices?: Readonly<Record<string, string>>
}

const { resolveAfter, reopenWithin, ipv6Prefix } = DEFAULT_THRESHOLDS

const SPAM_BOT = written(DEFAULT_THRESHOLDS.spamBot)
const SLOW_BOT = written(DEFAULT_THRESHOLDS.slowBot)
const SCANNER = written(DEFAULT_THRESHOLDS.scanner)
const MISCONFIGURED = written(DEFAULT_THRESHOLDS.misconfigured)
const EXEMPT_HOST = written(DEFAULT_THRESHOLDS.exemptHost)
const FLOOD = written(DEFAULT_THRESHOLDS.flood)

const TITLES: Readonly<Record<Kind, string>> = {
  policy: 'A policy',
  relay: 'A mail relay',
  exemption: 'An exemption',
  list: 'A list of prefixes',
  test: 'Tests of the policies',
}

const COMMON: Readonly<Record<string, Help>> = {
  kind: { title: 'Kind', description: 'what the document is' },
  name: { title: 'Name', examples: ['residential', 'mx-out', 'acme-mail-server'] },
  description: { title: 'Description' },
}

/** By the names on the way to a field; `[]` stands for an entry of a sequence. */
const HELP: Readonly<Record<Kind, Readonly<Record<string, Help>>>> = {
  policy: {
    networks: {
      title: 'Networks',
      examples: [['100.64.0.0/10', '2001:db8:100::/40'], ['@branch-offices']],
    },
    'networks[]': { title: 'Network' },
    mode: {
      title: 'Mode',
      default: 'enforce',
      choices: {
        enforce: 'block, or what else the action says',
        observe: 'count, report and let through: how to begin',
      },
    },
    action: {
      title: 'Action',
      default: 'reject',
      choices: {
        reject: 'answer with a TCP reset, so that mail programs fail at once',
        drop: 'answer nothing, so that they wait',
        redirect: 'hand the connection to the relay that redirect_to names',
      },
    },
    redirect_to: { title: 'Redirect to', examples: ['mx-out'] },
    detection: { title: 'Detection' },
    'detection.spam_bot': { title: 'Spam-bot', default: SPAM_BOT },
    'detection.spam_bot.attempts': { title: 'Attempts', default: SPAM_BOT.attempts },
    'detection.spam_bot.destinations': { title: 'Destinations', default: SPAM_BOT.destinations },
    'detection.spam_bot.window': { title: 'Window', default: SPAM_BOT.window, examples: ['5m', '1h'] },
    'detection.spam_bot.connections': { title: 'Connections', default: SPAM_BOT.connections },
    'detection.slow_bot': { title: 'Slow spam-bot', default: SLOW_BOT },
    'detection.slow_bot.destinations': { title: 'Destinations', default: SLOW_BOT.destinations },
    'detection.slow_bot.window': { title: 'Window', default: SLOW_BOT.window, examples: ['1d', '7d'] },
    'detection.scanner': { title: 'Scanner', default: SCANNER },
    'detection.scanner.destinations': { title: 'Destinations', default: SCANNER.destinations },
    'detection.scanner.window': { title: 'Window', default: SCANNER.window, examples: ['1h'] },
    'detection.misconfigured': { title: 'Misconfigured client', default: MISCONFIGURED },
    'detection.misconfigured.attempts': { title: 'Attempts', default: MISCONFIGURED.attempts },
    'detection.misconfigured.window': { title: 'Window', default: MISCONFIGURED.window, examples: ['10m'] },
    'detection.exempt_host': { title: 'Exempt host', default: EXEMPT_HOST },
    'detection.exempt_host.factor': { title: 'Factor', default: EXEMPT_HOST.factor },
    'detection.exempt_host.attempts': { title: 'Attempts', default: EXEMPT_HOST.attempts },
    'detection.exempt_host.destinations': { title: 'Destinations', default: EXEMPT_HOST.destinations },
    'detection.exempt_host.learn': { title: 'Learn', default: EXEMPT_HOST.learn, examples: ['1d', '7d'] },
    'detection.flood': { title: 'Flood', default: FLOOD },
    'detection.flood.sources': { title: 'Sources', default: FLOOD.sources },
    'detection.flood.window': { title: 'Window', default: FLOOD.window, examples: ['1m'] },
    'detection.resolve_after': {
      title: 'Resolve after',
      default: duration(resolveAfter),
      examples: ['1h', '1d'],
    },
    'detection.reopen_within': {
      title: 'Reopen within',
      default: duration(reopenWithin),
      examples: ['1d'],
    },
    'detection.ipv6_prefix': { title: 'IPv6 prefix length', default: ipv6Prefix, examples: [56, 64, 128] },
  },
  relay: {
    addresses: { title: 'Addresses', examples: [['192.0.2.25', '2001:db8::25']] },
    'addresses[]': { title: 'Address' },
    clients: { title: 'Clients', examples: [['100.64.0.0/10'], ['@branch-offices']] },
    'clients[]': { title: 'Client' },
    users: { title: 'Users', examples: [['postfix']] },
    'users[]': { title: 'User' },
  },
  exemption: {
    sources: { title: 'Sources', examples: [['100.64.12.7']] },
    'sources[]': { title: 'Source' },
    destinations: { title: 'Destinations', examples: [['203.0.113.0/24']] },
    'destinations[]': { title: 'Destination' },
    rate: { title: 'Rate', examples: ['30/minute', '1000/day'] },
    expires: { title: 'Expires', examples: ['2035-12-31T00:00:00Z', '2035-12-31T00:00:00+01:00'] },
    reason: { title: 'Reason', examples: ['The customer runs a mail server of its own.'] },
    owner: { title: 'Owner', examples: ['noc@example.net'] },
    ticket: { title: 'Ticket', examples: ['NOC-4711'] },
  },
  list: {
    prefixes: {
      title: 'Prefixes',
      description: 'the prefixes; or a file',
      examples: [['10.20.0.0/16', '2001:db8:200::/48']],
    },
    'prefixes[]': { title: 'Prefix' },
    file: { title: 'File', examples: ['lists/branch-offices.txt'] },
  },
  test: {
    expect: { title: 'Expectations', description: 'packets, and what must become of them' },
    'expect[]': {
      title: 'Expectation',
      examples: [{ from: '100.64.1.2', to: '203.0.113.9', verdict: 'block' }],
    },
    'expect[].from': { title: 'From', examples: ['100.64.1.2'] },
    'expect[].to': { title: 'To', examples: ['203.0.113.9'] },
    'expect[].port': { title: 'Port', default: 25, examples: [25, 465, 587] },
    'expect[].user': { title: 'User', examples: ['postfix'] },
    'expect[].verdict': {
      title: 'Verdict',
      choices: {
        allow: 'let through, whether a document allows it or nobody governs it',
        block: 'rejected or dropped',
        redirect: 'handed to a relay',
        observe: 'counted, reported and let through',
        ungoverned: 'let through, because no policy governs the source',
      },
    },
  },
}

/** One schema for a document of any kind. */
export function policyJsonSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'egress25 policy document',
    description: 'A document of egress25, which keeps machines from speaking SMTP to the internet.',
    type: 'object',
    required: ['kind', 'name'],
    properties: {
      kind: {
        ...COMMON['kind'],
        type: 'string',
        oneOf: KINDS.map((kind) => ({
          const: kind,
          description: (DOCUMENT_SCHEMAS[kind] as Shape).description,
        })),
      },
      name: forEditors(DOCUMENT_SCHEMAS.policy.properties.name, COMMON, 'name'),
    },
    // One branch for each kind, so that an editor speaks of the kind that is written and of no other.
    allOf: KINDS.map((kind) => ({
      if: { properties: { kind: { const: kind } }, required: ['kind'] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: {
        ...forEditors(DOCUMENT_SCHEMAS[kind], { '': { title: TITLES[kind] }, ...COMMON, ...HELP[kind] }, ''),
      },
    })),
  }
}

/** The part of JSON Schema that the documents' schemas are written in. */
interface Shape {
  readonly description?: string
  readonly format?: Format
  readonly enum?: readonly string[]
  readonly properties?: Readonly<Record<string, Shape>>
  readonly items?: Shape
}

/** A schema with what helps, for it and for all within it; `path` leads to it. */
function forEditors(schema: object, helps: Readonly<Record<string, Help>>, path: string): object {
  const { description, format, properties, items, enum: values, ...rest }: Shape = schema
  const { title, choices, ...help }: Partial<Help> = helps[path] ?? {}
  const said = description ?? help.description
  const within = (name: string) => (path === '' ? name : `${path}.${name}`)
  return {
    ...(title === undefined ? {} : { title }),
    ...(said === undefined ? {} : { description: said }),
    ...rest,
    ...help,
    ...(format === undefined ? {} : { pattern: PATTERNS[format] }),
    // An enum of the standard has no place to say what its values mean.
    ...(values === undefined
      ? {}
      : { type: 'string', oneOf: values.map((value) => ({ const: value, description: choices?.[value] })) }),
    ...(items === undefined ? {} : { items: forEditors(items, helps, `${path}[]`) }),
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(
            Object.entries(properties).map(([key, field]) => [key, forEditors(field, helps, within(key))]),
          ),
        }),
  }
}

/** A group of thresholds as its document has it. */
function written<T extends Readonly<Record<string, number>>>(
  group: T,
): { readonly [K in keyof T]: K extends 'window' | 'learn' ? string : T[K] }
function written(group: Readonly<Record<string, number>>): Record<string, unknown> {
  const isTime = (field: string) => field === 'window' || field === 'learn'
  return Object.fromEntries(
    Object.entries(group).map(([field, value]) => [field, isTime(field) ? duration(value) : value]),
  )
}

/** As people write it: 300,000 ms are 5m. */
function duration(milliseconds: number): string {
  const seconds = milliseconds / 1000
  for (const [unit, length] of [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
  ] as const) {
    if (seconds % length === 0) return `${seconds / length}${unit}`
  }
  return `${seconds}s`
}

/**
 * The five kinds of document, as JSON Schema that carries its TypeScript types: the one place that says which keys
 * there are. Policy files, REST bodies and editors are all checked against it.
 */
import { type Static, Type } from 'typebox'
import type { Format } from './formats.ts'

const string = (format: Format, description: string, maxLength = 200) =>
  Type.String({ format, description, minLength: 1, maxLength })

const prefixes = (description: string) =>
  Type.Array(string('prefix-or-list', 'an address, a prefix, or @ and the name of a list', 64), {
    description,
    minItems: 1,
    maxItems: 100_000,
  })

const choice = <T extends string>(values: readonly [T, ...T[]], description: string) =>
  Type.Enum([...values], { description })

const count = (description: string) => Type.Integer({ minimum: 1, maximum: 1_000_000, description })

const name = string('name', 'unique within its kind', 48)
const description = Type.Optional(string('text', 'for people', 2_000))

const document = <T extends Parameters<typeof Type.Object>[0]>(properties: T, description: string) =>
  Type.Object(properties, { additionalProperties: false, description })

export const DetectionSchema = document(
  {
    spam_bot: Type.Optional(
      document(
        {
          attempts: Type.Optional(count('attempts within the window')),
          destinations: Type.Optional(count('distinct destinations among them')),
          window: Type.Optional(string('duration', 'the window')),
          connections: Type.Optional(
            count('connections within the window that are too many even to two or three destinations'),
          ),
        },
        'when a machine is called a spam-bot',
      ),
    ),
    slow_bot: Type.Optional(
      document(
        {
          destinations: Type.Optional(count('distinct destinations within the window, hardly tried twice')),
          window: Type.Optional(string('duration', 'the window')),
        },
        'when a machine that is never fast is called a spam-bot all the same',
      ),
    ),
    scanner: Type.Optional(
      document(
        {
          destinations: Type.Optional(count('distinct destinations next to each other within the window')),
          window: Type.Optional(string('duration', 'the window')),
        },
        'when a machine is called a scanner',
      ),
    ),
    misconfigured: Type.Optional(
      document(
        {
          attempts: Type.Optional(count('attempts within the window')),
          window: Type.Optional(string('duration', 'the window')),
        },
        'when a machine is called a misconfigured client',
      ),
    ),
    exempt_host: Type.Optional(
      document(
        {
          factor: Type.Optional(
            Type.Integer({
              minimum: 2,
              maximum: 1_000,
              description: 'so many times what it did at most before',
            }),
          ),
          attempts: Type.Optional(count('fewer connections within ten minutes are no anomaly')),
          destinations: Type.Optional(
            count('fewer distinct destinations within ten minutes are none either'),
          ),
          learn: Type.Optional(string('duration', 'how long a host is watched before it is judged')),
        },
        'when a relay or an exempt host is called an anomaly',
      ),
    ),
    flood: Type.Optional(
      document(
        {
          sources: Type.Optional(count('machines within the window that were never seen before')),
          window: Type.Optional(string('duration', 'the window')),
        },
        'when attempts are called a flood from spoofed addresses',
      ),
    ),
    resolve_after: Type.Optional(string('duration', 'quiet time after which an incident is resolved')),
    reopen_within: Type.Optional(
      string('duration', 'a machine that comes back so soon after an incident was resolved opens it again'),
    ),
    ipv6_prefix: Type.Optional(
      Type.Integer({
        minimum: 32,
        maximum: 128,
        description: 'one machine or subscriber is one prefix of this length',
      }),
    ),
  },
  'what is judged an incident; every field has a default',
)

export const PolicySchema = document(
  {
    kind: Type.Literal('policy'),
    name,
    description,
    networks: prefixes('whom it governs'),
    mode: Type.Optional(choice(['enforce', 'observe'], 'observe: log and count, let through')),
    action: Type.Optional(choice(['reject', 'drop', 'redirect'], 'what becomes of a governed packet')),
    redirect_to: Type.Optional(string('name', 'with action: redirect, the relay that takes the connection')),
    detection: Type.Optional(DetectionSchema),
  },
  'whom it governs, and what becomes of their port-25 traffic',
)

export const RelaySchema = document(
  {
    kind: Type.Literal('relay'),
    name,
    description,
    addresses: prefixes('its addresses; it may send to anywhere'),
    clients: Type.Optional(prefixes('who may submit to it on port 25; everyone when absent')),
    users: Type.Optional(
      Type.Array(string('user', 'a local user', 32), {
        minItems: 1,
        maxItems: 100,
        description: 'on the gateway itself, processes of these users are a relay',
      }),
    ),
  },
  'a designated mail relay',
)

export const ExemptionSchema = document(
  {
    kind: Type.Literal('exemption'),
    name,
    description,
    sources: prefixes('who may send'),
    destinations: Type.Optional(prefixes('to where; anywhere when absent')),
    rate: Type.Optional(string('rate', 'new connections per source; more are blocked')),
    expires: Type.Optional(string('timestamp', 'when it ends; never when absent')),
    reason: Type.Optional(string('text', 'why', 2_000)),
    owner: Type.Optional(string('text', 'who answers for it')),
    ticket: Type.Optional(string('text', 'where it was asked for')),
  },
  'a host that may send although governed',
)

export const ListSchema = document(
  {
    kind: Type.Literal('list'),
    name,
    description,
    prefixes: Type.Optional(
      Type.Array(string('prefix', 'an address or a prefix', 64), { minItems: 1, maxItems: 100_000 }),
    ),
    file: Type.Optional(string('relative-path', 'a text file in the policy directory, a prefix a line', 500)),
  },
  'a named set of prefixes',
)

export const TestSchema = document(
  {
    kind: Type.Literal('test'),
    name,
    description,
    expect: Type.Array(
      document(
        {
          from: string('address', 'source address', 64),
          to: string('address', 'destination address', 64),
          port: Type.Optional(
            Type.Integer({ minimum: 1, maximum: 65_535, description: 'TCP port; 25 when absent' }),
          ),
          user: Type.Optional(string('user', 'local user who sends, on the gateway itself', 32)),
          verdict: choice(['allow', 'block', 'redirect', 'observe', 'ungoverned'], 'what must become of it'),
        },
        'one packet and its verdict',
      ),
      { minItems: 1, maxItems: 10_000 },
    ),
  },
  'expectations that gate every apply',
)

export const DOCUMENT_SCHEMAS = {
  policy: PolicySchema,
  relay: RelaySchema,
  exemption: ExemptionSchema,
  list: ListSchema,
  test: TestSchema,
} as const

export type Kind = keyof typeof DOCUMENT_SCHEMAS
export const KINDS = Object.keys(DOCUMENT_SCHEMAS) as Kind[]

/** What the documents of each kind are called together, in folders and in URLs. */
export const PLURALS: Readonly<Record<Kind, string>> = {
  policy: 'policies',
  relay: 'relays',
  exemption: 'exemptions',
  list: 'lists',
  test: 'tests',
}

export type PolicyDocument = Static<typeof PolicySchema>
export type RelayDocument = Static<typeof RelaySchema>
export type ExemptionDocument = Static<typeof ExemptionSchema>
export type ListDocument = Static<typeof ListSchema>
export type TestDocument = Static<typeof TestSchema>
export type Document = PolicyDocument | RelayDocument | ExemptionDocument | ListDocument | TestDocument

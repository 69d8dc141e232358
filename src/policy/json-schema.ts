/**
 * The schemas of the documents as JSON Schema (draft 2020-12) for editors. The formats of our own become patterns,
 * which every validator knows; what a pattern cannot say (host bits, a day that the month lacks) `check` says.
 */
import type { Format } from './formats.ts'
import { DOCUMENT_SCHEMAS } from './schema.ts'

const ADDRESS = '[0-9a-fA-F:.]{2,45}'
const PREFIX = `${ADDRESS}(/[0-9]{1,3})?`
const NAME = '[a-z0-9][a-z0-9-]{0,47}'

const PATTERNS: Readonly<Record<Format, string>> = {
  name: `^${NAME}$`,
  text: '^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f]*$',
  address: `^${ADDRESS}$`,
  prefix: `^${PREFIX}$`,
  'prefix-or-list': `^(${PREFIX}|@${NAME})$`,
  duration: '^[1-9][0-9]{0,8}[smhd]$',
  rate: '^[1-9][0-9]{0,6}/(second|minute|hour|day)$',
  timestamp: '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.0+)?(Z|[+-][0-9]{2}:[0-9]{2})$',
  user: '^[a-z_][a-z0-9_-]{0,31}$',
  'relative-path': '^[^/\\\\][^\\\\]*$',
}

/** One schema for a document of any kind. */
export function policyJsonSchema(): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'egress25 policy document',
    type: 'object',
    required: ['kind', 'name'],
    properties: { kind: { enum: Object.keys(DOCUMENT_SCHEMAS) } },
    // One branch for each kind, so that an editor speaks of the kind that is written and of no other.
    allOf: Object.entries(DOCUMENT_SCHEMAS).map(([kind, schema]) => ({
      if: { properties: { kind: { const: kind } }, required: ['kind'] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: withPatterns(schema),
    })),
  }
}

function withPatterns(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withPatterns)
  if (typeof value !== 'object' || value === null) return value
  const { format, ...rest } = value as { format?: unknown }
  const copy = Object.fromEntries(Object.entries(rest).map(([key, item]) => [key, withPatterns(item)]))
  return typeof format === 'string' ? { ...copy, pattern: PATTERNS[format as Format] } : copy
}

/**
 * What the schemas of several resources have in common. An object with a title becomes a component of that name in
 * `/openapi.json`.
 */
import { type TProperties, Type } from 'typebox'
import { DIAGNOSTIC_CODES } from '../policy/diagnostic.ts'
import { NAME } from '../policy/name.ts'
import { DOCUMENT_SCHEMAS, type Document, KINDS, type Kind } from '../policy/schema.ts'

interface About {
  readonly title?: string
  readonly description?: string
  readonly examples?: readonly unknown[]
}

/** An object with these keys and no others. */
export function object<P extends TProperties>(properties: P, about: About = {}) {
  return Type.Object(properties, { additionalProperties: false, ...about })
}

/** One of a few words. */
export function oneOf<const W extends string>(words: readonly W[], about: About = {}) {
  return Type.Unsafe<W>({ type: 'string', enum: [...words], ...about })
}

export function nullable<const S extends Parameters<typeof Type.Union>[0][number]>(schema: S) {
  return Type.Union([schema, Type.Null()])
}

/** A record with numbers, such as counts by kind. */
export function counts<const W extends string>(keys: readonly W[] | null, about: About = {}) {
  const names = keys === null ? {} : { propertyNames: { enum: [...keys] } }
  return Type.Unsafe<Record<string, number>>({
    type: 'object',
    additionalProperties: { type: 'integer', minimum: 0 },
    ...names,
    ...about,
  })
}

export const Count = Type.Integer({ minimum: 0 })
/** In answers; RFC 3339 in UTC. */
export const Time = Type.String({ format: 'date-time', examples: ['2026-11-26T08:30:00.000Z'] })
export const Text = Type.String()
export const Name = Type.String({ pattern: NAME.source })

/** A page of a list. */
export function pageOf<const S extends Parameters<typeof Type.Array>[0]>(item: S, description: string) {
  return object(
    {
      items: Type.Array(item),
      next: nullable(
        Type.String({
          description: 'to be given as `cursor` for the page after this one; null: it is the last',
        }),
      ),
    },
    { description },
  )
}

const Place = object({ line: Type.Integer({ minimum: 1 }), column: Type.Integer({ minimum: 1 }) })

export const DiagnosticSchema = object(
  {
    file: Type.String({ description: 'relative to the policy directory' }),
    line: Type.Integer({ minimum: 1 }),
    column: Type.Integer({ minimum: 1 }),
    end: Type.Optional(Place),
    excerpt: Type.Optional(Type.String({ description: 'the line of the file that it speaks of' })),
    code: oneOf(Object.keys(DIAGNOSTIC_CODES) as (keyof typeof DIAGNOSTIC_CODES)[]),
    severity: oneOf(['error', 'warning', 'note']),
    message: Text,
  },
  { title: 'Diagnostic', description: 'what is wrong with a policy directory, and where' },
)

export const KindSchema = oneOf(KINDS as readonly Kind[])

/** What a kind is called as a component and in names of operations. */
export function titleOf(kind: Kind): string {
  return `${kind.charAt(0).toUpperCase()}${kind.slice(1)}`
}

/** A document as it is answered. */
export function documentSchema(kind: Kind) {
  return Type.Unsafe<Document>({ ...DOCUMENT_SCHEMAS[kind], title: titleOf(kind) })
}

/**
 * Checks a value against a schema and tells every fault at once, each by JSON pointer and code.
 *
 * It reads the few JSON Schema keywords that the project's own schemas use. A general validator would say "must
 * match pattern"; this one says which octet of an operator's evening went wrong.
 */
import type { TSchema } from 'typebox'
import type { Problem } from './diagnostic.ts'
import { type Fault, FORMATS, quote } from './formats.ts'
import { suggest } from './suggest.ts'

/** The part of JSON Schema that the project's schemas are written in. */
interface Shape {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean'
  readonly const?: unknown
  readonly enum?: readonly string[]
  /** One of these mappings: the one whose property of that name has the value (OpenAPI 3.1, `discriminator`). */
  readonly anyOf?: readonly Shape[]
  readonly discriminator?: { readonly propertyName: string }
  readonly format?: string
  readonly properties?: Readonly<Record<string, Shape>>
  readonly required?: readonly string[]
  readonly items?: Shape
  readonly minItems?: number
  readonly maxItems?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly maximum?: number
}

/** Readers of the little languages that strings are written in, by the name of the format. */
export type Formats = Readonly<Record<string, (text: string) => Fault | null>>

/** Every way in which the value fails the schema; empty when it fits, and then it has the schema's static type. */
export function checkShape(schema: TSchema, value: unknown, formats: Formats = FORMATS): Problem[] {
  const problems: Problem[] = []
  visit(schema as Shape, value, '', { problems, formats })
  return problems
}

interface Check {
  readonly problems: Problem[]
  readonly formats: Formats
}

/** One step of a JSON pointer (RFC 6901 §3). */
export function pointerTo(parent: string, key: string | number): string {
  return `${parent}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** A document with more mistakes than this is none of ours; the first ones tell enough. */
const MAX_PROBLEMS = 1_000

function visit(shape: Shape, value: unknown, pointer: string, check: Check): void {
  if (check.problems.length >= MAX_PROBLEMS) return
  const add = (code: Problem['code'], message: string) => check.problems.push({ pointer, code, message })
  if (shape.const !== undefined) {
    if (value !== shape.const) add('bad-value', `must be ${shape.const}`)
    return
  }
  if (shape.enum !== undefined) {
    if (typeof value !== 'string' || !shape.enum.includes(value)) {
      add('bad-value', `must be one of ${shape.enum.join(', ')}${suggest(value, shape.enum)}`)
    }
    return
  }
  if (shape.anyOf !== undefined) {
    visitChoice(shape, value, pointer, check)
    return
  }
  switch (shape.type) {
    case 'object':
      if (isMapping(value)) visitMapping(shape, value, pointer, check)
      else add('wrong-type', `must be a mapping, not ${describe(value)}`)
      return
    case 'array':
      if (Array.isArray(value)) visitSequence(shape, value, pointer, check)
      else add('wrong-type', `must be a sequence such as [a, b], not ${describe(value)}`)
      return
    case 'string':
      if (typeof value === 'string') visitString(shape, value, check.formats, add)
      else if (Number.isSafeInteger(value) && faultOf(shape, String(value), check.formats) !== null) {
        // Quotes would not help.
        visitString(shape, String(value), check.formats, add)
      } else add('wrong-type', `must be a text, not ${describe(value)}${quotingHint(value)}`)
      return
    case 'integer': {
      const [least, most] = [
        shape.minimum ?? Number.MIN_SAFE_INTEGER,
        shape.maximum ?? Number.MAX_SAFE_INTEGER,
      ]
      if (typeof value !== 'number' || !Number.isInteger(value)) {
        add('wrong-type', `must be a whole number, not ${describe(value)}`)
      } else if (value < least || value > most) {
        add('bad-value', `must be between ${least} and ${most}, not ${value}`)
      }
      return
    }
    case 'boolean':
      if (typeof value !== 'boolean') add('wrong-type', `must be true or false, not ${describe(value)}`)
      return
    default:
      throw new TypeError(`no rule for the schema at ${pointer || 'the root'}`)
  }
}

function visitChoice(
  { anyOf = [], discriminator }: Shape,
  value: unknown,
  pointer: string,
  check: Check,
): void {
  const key = discriminator?.propertyName ?? ''
  const known = anyOf.map((one) => String(one.properties?.[key]?.const))
  const chosen = isMapping(value) && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined
  const found = anyOf[known.indexOf(chosen as string)]
  // Without it nothing else can be said of a mapping.
  const choice: Shape = { type: 'object', properties: { [key]: { enum: known } }, required: [key] }
  if (found !== undefined || !isMapping(value)) visit(found ?? choice, value, pointer, check)
  else visit(choice, chosen === undefined ? {} : { [key]: chosen }, pointer, check)
}

function visitMapping(shape: Shape, value: object, pointer: string, check: Check): void {
  const properties = shape.properties ?? {}
  for (const [key, item] of Object.entries(value)) {
    if (check.problems.length >= MAX_PROBLEMS) return
    const at = pointerTo(pointer, key)
    const property = Object.hasOwn(properties, key) ? properties[key] : undefined
    if (property !== undefined) visit(property, item, at, check)
    else {
      const message = `unknown key ${quote(key)}${suggest(key, Object.keys(properties))}`
      check.problems.push({ pointer: at, atKey: true, code: 'unknown-key', message })
    }
  }
  for (const key of shape.required ?? []) {
    if (!Object.hasOwn(value, key)) {
      check.problems.push({ pointer, code: 'missing-key', message: `the key ${key} is missing` })
    }
  }
}

function visitSequence(shape: Shape, value: readonly unknown[], pointer: string, check: Check): void {
  const [least, most] = [shape.minItems ?? 0, shape.maxItems ?? Number.POSITIVE_INFINITY]
  if (value.length < least || value.length > most) {
    const range = `must have ${least} to ${most} entries, not ${value.length}`
    const message = most === 0 ? 'must be empty: this version does nothing with it' : range
    check.problems.push({ pointer, code: 'bad-length', message })
    return
  }
  if (shape.items === undefined) return
  for (const [index, item] of value.entries()) visit(shape.items, item, pointerTo(pointer, index), check)
}

function visitString(
  shape: Shape,
  value: string,
  formats: Formats,
  add: (code: Problem['code'], message: string) => void,
): void {
  const [least, most] = [shape.minLength ?? 0, shape.maxLength ?? Number.POSITIVE_INFINITY]
  if (value.length < least || value.length > most) {
    add('bad-length', `must have ${least} to ${most} characters, not ${value.length}`)
    return
  }
  const fault = faultOf(shape, value, formats)
  if (fault !== null) add(fault.code, fault.message)
}

function faultOf({ format }: Shape, value: string, formats: Formats): Fault | null {
  return format === undefined ? null : (formats[format]?.(value) ?? null)
}

function isMapping(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return 'empty'
  if (Array.isArray(value)) return 'a sequence'
  if (typeof value === 'object') return 'a mapping'
  return `the ${typeof value === 'string' ? 'text' : typeof value} ${quote(String(value))}`
}

/** YAML reads 010 as 10 and 1e3 as 1000; quotes keep what was written. */
function quotingHint(value: unknown): string {
  return typeof value === 'number' || typeof value === 'boolean' ? ' (put it in quotes)' : ''
}

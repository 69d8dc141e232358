/** Looking into JSON of which nothing is known: whatever has another shape reads as nothing. */

export type Json = Readonly<Record<string, unknown>>

const NOTHING: Json = Object.freeze({})

/** An object, or an empty one. */
export function record(value: unknown): Json {
  return isRecord(value) ? value : NOTHING
}

export function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A list, or an empty one. */
export function items(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** A string or a number as text, or null. */
export function scalar(value: unknown): string | null {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : null
}

/** The one key of an object that stands for a kind of thing, and what it holds. */
export function only(value: unknown): readonly [string, unknown] {
  return Object.entries(record(value))[0] ?? ['', null]
}

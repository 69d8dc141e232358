/** Lists in pages: `{"items": […], "next": cursor|null}`. */
import { type Static, Type } from 'typebox'
import { type ApiError, wrong } from './problem.ts'

export const LIMIT_PATTERN = '^([1-9][0-9]{0,2}|1000)$'

/** Query strings are text, so the limit is checked as such: nothing is coerced behind the client's back. */
export const PageQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.String({ pattern: LIMIT_PATTERN, description: 'items of a page; 100 when absent' }),
    ),
    cursor: Type.Optional(
      Type.String({ maxLength: 200, pattern: '^[A-Za-z0-9_-]+$', description: '`next` of the page before' }),
    ),
  },
  { additionalProperties: false },
)

export interface Page<T> {
  readonly items: readonly T[]
  readonly next: string | null
}

const DEFAULT_LIMIT = 100

export function limitOf({ limit }: Static<typeof PageQuery>): number {
  return limit === undefined ? DEFAULT_LIMIT : Number(limit)
}

/** The page after the cursor; `found` has one item more than the page holds when there is a next one. */
export function page<T>(found: readonly T[], limit: number, cursorOf: (item: T) => string): Page<T> {
  const items = found.slice(0, limit)
  const last = items.at(-1)
  const next =
    found.length > limit && last !== undefined ? Buffer.from(cursorOf(last)).toString('base64url') : null
  return { items, next }
}

/** Of a list that is at hand as a whole; the cursor says how many came before. @throws ApiError */
export function pageOfAll<T>(all: readonly T[], query: Static<typeof PageQuery>): Page<T> {
  const limit = limitOf(query)
  const offset = numberCursor(query) ?? 0
  return page(all.slice(offset, offset + limit + 1), limit, () => String(offset + limit))
}

/** The number that a cursor stands for, at most so large. @throws ApiError */
export function numberCursor(query: Static<typeof PageQuery>, most = Number.MAX_SAFE_INTEGER): number | null {
  const cursor = textCursor(query, /^\d{1,16}$/)
  if (cursor === null) return null
  if (Number(cursor) > most) throw notOurs()
  return Number(cursor)
}

/** The text that a cursor stands for, when it is one of this form. @throws ApiError */
export function textCursor(query: Static<typeof PageQuery>, form: RegExp): string | null {
  return partsOfCursor(query, form)?.[0] ?? null
}

/** The same for one of several parts, each a group of the form: the whole, and its parts. @throws ApiError */
export function partsOfCursor({ cursor }: Static<typeof PageQuery>, form: RegExp): readonly string[] | null {
  if (cursor === undefined) return null
  const parts = form.exec(Buffer.from(cursor, 'base64url').toString('utf8'))
  if (parts === null) throw notOurs()
  return parts
}

function notOurs(): ApiError {
  return wrong('/querystring/cursor', 'is none that was given out')
}

/** What questions about the past have in common: times, spans of time and their steps. */
import { type Static, Type } from 'typebox'
import { parseTimestamp } from '../../policy/formats.ts'
import { keptFor, LEVELS, levelOf, type Step, spanStart } from '../../store/attempts-levels.ts'
import type { Point, Span } from '../../store/attempts-query.ts'
import { wrong } from '../http/problem.ts'
import { Count, object, oneOf, Time } from '../schemas.ts'

const Moment = Type.Optional(Type.String({ maxLength: 40, description: 'RFC 3339' }))

/** Both RFC 3339; the end is not part of the span. By default the last 24 hours. */
export const SpanQuery = object({ from: Moment, to: Moment })

export const StepSchema = oneOf(['minute', 'hour', 'day', 'week'])

export const PointSchema = object(
  { time: Time, attempts: Count, told: Count, allowed: Count },
  { title: 'Point', description: 'counted, known in detail, and of relays and exempt hosts' },
)

const DAY = 86_400_000

/** Points of one answer. */
const MAX_POINTS = 1_500

/** Milliseconds since the epoch of an RFC 3339 time, with fractions of a second or without. @throws ApiError */
export function readTime(text: string, name: string): number {
  const [, whole = '', fraction = '', zone = ''] = /^(.*:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.exec(text) ?? []
  const time = parseTimestamp(whole + zone)
  if (time !== null) return time + Math.floor(Number(`0${fraction || '.0'}`) * 1000)
  throw wrong(
    `/querystring/${name}`,
    'must be a time as in RFC 3339, such as 2026-12-31T00:00:00Z (write + as %2B)',
  )
}

/** @throws ApiError */
export function readSpan(query: Static<typeof SpanQuery>, now: number): { from: number; to: number } {
  const to = query.to === undefined ? now : readTime(query.to, 'to')
  const from = query.from === undefined ? to - DAY : readTime(query.from, 'from')
  if (from >= to) throw wrong('/querystring/from', 'must be before to')
  return { from, to }
}

/**
 * The span in steps for a series: as asked for, or the finest that makes a readable picture and is remembered for so
 * long.
 * @throws ApiError
 */
export function seriesSpan(
  { from, to }: { from: number; to: number },
  step: Step | undefined,
  { now, retain }: { now: number; retain: number },
): Span {
  const points = (one: Step) => (to - from) / (levelOf(one).seconds * 1000)
  const isKept = (one: Step) => from >= now - keptFor(levelOf(one), retain)
  if (step === undefined) {
    const fine = LEVELS.find((level) => points(level.step) <= 400 && isKept(level.step))
    const found = fine?.step ?? (points('day') <= MAX_POINTS ? 'day' : 'week')
    return { step: bounded(found, points), from, to }
  }
  if (!isKept(step) && levelOf(step).kept !== null) {
    const days = Math.floor(keptFor(levelOf(step), retain) / DAY)
    throw wrong('/querystring/step', `${step} is too fine: such sums are kept for ${days} days`)
  }
  return { step: bounded(step, points), from, to }
}

function bounded(step: Step, points: (step: Step) => number): Step {
  if (points(step) > MAX_POINTS)
    throw wrong('/querystring/step', `would make more than ${MAX_POINTS} points; ask for less time`)
  return step
}

/** The same for a ranking, which reads every machine of every step: few steps, in whole ones. */
export function rankingSpan({ from, to }: { from: number; to: number }, now: number): Span {
  const limits: readonly [Step, number][] = [
    ['minute', DAY / 48],
    ['hour', DAY],
    ['day', 14 * DAY],
  ]
  const found = limits.find(([step, most]) => {
    const { kept } = levelOf(step)
    return to - from <= most && (kept === null || from >= now - kept)
  })
  const step = found?.[0] ?? (to - from <= 14 * DAY ? 'day' : 'week')
  const level = levelOf(step)
  const end = spanStart(level, to - 1) + level.seconds
  return { step, from: spanStart(level, from) * 1000, to: Math.min(end * 1000, Math.max(now, to)) }
}

export function pointBody({ time, attempts, told, allowed }: Point) {
  return { time: new Date(time).toISOString(), attempts, told, allowed }
}

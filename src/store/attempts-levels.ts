/**
 * The spans of time in which attempts are summed up. Every attempt is added to its minute, hour, day and week at once,
 * so nothing ever has to be rolled up, and the sums of all levels agree; the finer a level, the sooner it is forgotten.
 */

export type Step = 'minute' | 'hour' | 'day' | 'week'

export interface Level {
  readonly step: Step
  /** Seconds of one span. */
  readonly seconds: number
  /** Seconds from the epoch to the start of a span: weeks begin on Mondays, and the epoch was a Thursday. */
  readonly offset: number
  /** Milliseconds for which they are kept; null: as long as the history. */
  readonly kept: number | null
}

const DAY = 86_400

/** The finest first. All are in UTC. */
export const LEVELS: readonly Level[] = [
  { step: 'minute', seconds: 60, offset: 0, kept: 2 * DAY * 1000 },
  { step: 'hour', seconds: 3_600, offset: 0, kept: 14 * DAY * 1000 },
  { step: 'day', seconds: DAY, offset: 0, kept: null },
  { step: 'week', seconds: 7 * DAY, offset: 4 * DAY, kept: null },
]

export function levelOf(step: Step): Level {
  return LEVELS.find((level) => level.step === step) as Level
}

/** The start of the span that holds a time (milliseconds since the epoch), in seconds since the epoch. */
export function spanStart({ seconds, offset }: Pick<Level, 'seconds' | 'offset'>, time: number): number {
  return Math.floor((Math.floor(time / 1000) - offset) / seconds) * seconds + offset
}

/** Milliseconds for which a level is kept in a history of this length. */
export function keptFor({ kept }: Level, retain: number): number {
  return Math.min(kept ?? retain, retain)
}

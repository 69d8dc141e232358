/** When a machine sends: what its history by hours says of how it goes about it. Pure. */

/** Attempts of an hour; the time in milliseconds since the epoch. */
export interface Hour {
  readonly time: number
  readonly attempts: number
}

export interface Rhythm {
  /** Hours in which it tried. */
  readonly activeHours: number
  /** The most attempts in one hour. */
  readonly busiestHour: number
  /**
   * From 0 to 1: the busiest day of the quieter half of its time, as a share of the busiest day of the other. Who has done
   * for long what he does is near 1; who does much since a short time is near 0, and so is who is known for a day.
   */
  readonly recurrence: number
}

const DAY = 86_400_000

/** The hours may be those of a longer time, and need not be all: days count from the first with an attempt to the last. */
export function rhythmOf(hours: readonly Hour[]): Rhythm {
  const active = hours.filter(({ attempts }) => attempts > 0)
  const first = active.reduce((least, { time }) => Math.min(least, time), Number.POSITIVE_INFINITY)
  const days: number[] = []
  for (const { time, attempts } of active) {
    const day = Math.floor((time - first) / DAY)
    days[day] = (days[day] ?? 0) + attempts
  }
  const half = Math.floor(days.length / 2)
  const busiest = (some: readonly number[]) => some.reduce((most, many) => Math.max(most, many), 0)
  const [early, late] = [busiest(days.slice(0, half)), busiest(days.slice(half))]
  return {
    activeHours: active.length,
    busiestHour: busiest(active.map(({ attempts }) => attempts)),
    recurrence: active.length === 0 ? 0 : Math.min(early, late) / Math.max(early, late),
  }
}

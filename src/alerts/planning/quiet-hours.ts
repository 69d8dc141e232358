/** Hours in which people want to sleep, by the clock on their wall. Pure; the clock is passed in. */
import type { QuietHours } from './handling.ts'

const DAY = 1_440

/** Whether it is within them; `now` in milliseconds since the epoch. From a time to the same time: the whole day. */
export function isQuiet({ from, to, zone }: QuietHours, now: number): boolean {
  const minute = minuteOfDay(zone, now)
  return from < to ? minute >= from && minute < to : minute >= from || minute < to
}

/** Milliseconds until one should look again: at their end, or sooner, because a clock on a wall may be put forward. */
export function quietFor({ to, zone }: QuietHours, now: number): number {
  const minutes = (to - minuteOfDay(zone, now) + DAY) % DAY || DAY
  return Math.min(minutes, LOOK_AGAIN) * 60_000 - (now % 60_000)
}

const LOOK_AGAIN = 15

const clocks = new Map<string, Intl.DateTimeFormat>()

function minuteOfDay(zone: string, now: number): number {
  let clock = clocks.get(zone)
  if (clock === undefined) {
    clock = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      hourCycle: 'h23',
      hour: '2-digit',
      minute: '2-digit',
    })
    clocks.set(zone, clock)
  }
  const parts = new Map(clock.formatToParts(now).map(({ type, value }) => [type, Number(value)]))
  return (parts.get('hour') ?? 0) * 60 + (parts.get('minute') ?? 0)
}

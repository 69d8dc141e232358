/** Numbers, times and kinds as people read them. Pure. */

const whole = new Intl.NumberFormat('en-GB')
const time = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })
const date = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

const KINDS: Readonly<Record<string, string>> = {
  'spam-bot': 'Spam bot',
  'misconfigured-client': 'Misconfigured client',
  'exempt-host-anomaly': 'Exempt host behaves unusually',
  scanner: 'Scanner',
  flood: 'Flood',
}

export const kindOf = (kind: string): string => KINDS[kind] ?? kind

export const formatNumber = (value: number): string => whole.format(value)

/** `3 attempts`, `1 attempt`. */
export const countOf = (value: number, one: string, many = `${one}s`): string =>
  `${formatNumber(value)} ${value === 1 ? one : many}`

/** A moment: of the last or next twenty hours by its time of day, else by its date too. */
export function formatMoment(moment: number, now: number): string {
  const of = new Date(moment)
  return Math.abs(now - moment) < 20 * HOUR ? time.format(of) : `${date.format(of)}, ${time.format(of)}`
}

export const formatDay = (moment: number): string => date.format(new Date(moment))
export const formatTime = (moment: number): string => time.format(new Date(moment))

/** Milliseconds in the largest unit of which there are at least two. */
export function formatSpan(milliseconds: number): string {
  if (milliseconds < 2 * MINUTE) return `${Math.max(1, Math.round(milliseconds / 1000))} s`
  if (milliseconds < 2 * HOUR) return `${Math.round(milliseconds / MINUTE)} min`
  if (milliseconds < 2 * DAY) return `${Math.round(milliseconds / HOUR)} h`
  return `${Math.round(milliseconds / DAY)} days`
}

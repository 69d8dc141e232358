/** For how long a receiver asks to be left alone: the header `Retry-After` (RFC 9110 §10.2.3). */

/** Whatever a receiver asks for, it is tried again once an hour. */
const LONGEST = 3_600

/** Seconds, from 0 to an hour, of a number or an HTTP date; null when there is neither. `now` in milliseconds. */
export function retryAfterSeconds(header: string | null, now: number): number | null {
  if (header === null) return null
  const seconds = /^\s*\d{1,9}\s*$/.test(header)
    ? Number(header)
    : Math.ceil((Date.parse(header) - now) / 1_000)
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 0), LONGEST)
}

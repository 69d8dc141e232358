/** The little languages inside strings: names, prefixes, durations, rates, times. Each has one reader, here. */
import type { DiagnosticCode } from './diagnostic.ts'
import { NAME } from './name.ts'
import { parsePrefix, withoutHostBits, withoutMapping } from './prefix.ts'
import { findUnseen } from './unseen.ts'

export interface Fault {
  readonly code: DiagnosticCode
  readonly message: string
}

/** New connections per span of time. */
export interface Rate {
  readonly count: number
  readonly per: 'second' | 'minute' | 'hour' | 'day'
}

export const FORMATS = {
  name: nameFault,

  text: (text: string) =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
    /[\u0000-\u0008\u000b-\u001f\u007f\p{Cs}]/u.test(text)
      ? fault('bad-text', 'the text holds control characters or halves of characters')
      : null,

  address: (text: string) =>
    text.includes('/')
      ? fault('bad-prefix', `${quote(text)} is a prefix; a single address is needed here`)
      : prefixFault(text, 'address'),

  prefix: (text: string) => prefixFault(text),

  'prefix-or-list': (text: string) => (text.startsWith('@') ? nameFault(text.slice(1)) : prefixFault(text)),

  duration: (text: string) =>
    parseDuration(text) === null
      ? fault('bad-duration', `${quote(text)} is not a duration: write 30s, 5m, 1h or 7d (at most 3650d)`)
      : null,

  rate: (text: string) =>
    parseRate(text) === null
      ? fault('bad-rate', `${quote(text)} is not a rate: write N/second, N/minute, N/hour or N/day`)
      : null,

  timestamp: (text: string) =>
    parseTimestamp(text) === null
      ? fault(
          'bad-timestamp',
          `${quote(text)} is not a time: write it as RFC 3339 does, with a zone: 2026-12-31T00:00:00Z`,
        )
      : null,

  user: (text: string) =>
    /^[a-z_][a-z0-9_-]{0,31}$/.test(text)
      ? null
      : fault('bad-user', `${quote(text)} is not a user name: use a-z, 0-9, _ and -`),

  'relative-path': (text: string) =>
    text.startsWith('/') ||
    /[\\\t\r\n]/.test(text) ||
    text.split('/').includes('..') ||
    findUnseen(text) !== null
      ? fault('bad-path', `${quote(text)} must be a path inside the policy directory`)
      : null,
} as const satisfies Record<string, (text: string) => Fault | null>

export type Format = keyof typeof FORMATS & string

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const LONGEST_MS = 3650 * UNIT_MS.d

/** Milliseconds of `30s`, `5m`, `1h` or `7d`; null when the text is none, is zero, or is beyond ten years. */
export function parseDuration(text: string): number | null {
  const match = /^([1-9][0-9]{0,8})([smhd])$/.exec(text)
  if (match === null) return null
  const ms = Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS]
  return ms <= LONGEST_MS ? ms : null
}

/** `30/minute`: at least 1 and at most 1,000,000 per second, minute, hour or day. */
export function parseRate(text: string): Rate | null {
  const match = /^([1-9][0-9]{0,6})\/(second|minute|hour|day)$/.exec(text)
  if (match === null || Number(match[1]) > 1_000_000) return null
  return { count: Number(match[1]), per: match[2] as Rate['per'] }
}

/** Milliseconds since the epoch of an RFC 3339 time with a zone, whole seconds, years 1970 to 2199; else null. */
export function parseTimestamp(text: string): number | null {
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.0+)?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (match === null) return null
  const ms = Date.parse(text)
  if (Number.isNaN(ms) || ms < 0 || Number(match[1]) > 2199) return null
  // Date.parse takes 30 February for 2 March; a day that the month lacks is a slip to be reported.
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])]
  return day <= new Date(Date.UTC(year, month, 0)).getUTCDate() ? ms : null
}

function nameFault(text: string): Fault | null {
  return NAME.test(text)
    ? null
    : fault('bad-name', `${quote(text)} is not a name: use 1 to 48 of a-z, 0-9 and -, not starting with -`)
}

function prefixFault(text: string, what = 'address or prefix'): Fault | null {
  const prefix = parsePrefix(text)
  if (prefix === 'host-bits') {
    return fault('host-bits', `${quote(text)} has host bits set; did you mean ${withoutHostBits(text)}?`)
  }
  if (prefix !== 'bad-prefix') return null
  const four = withoutMapping(text)
  const message = four === null ? `is not an IPv4 or IPv6 ${what}` : mappingHint(four)
  return fault('bad-prefix', `${quote(text)} ${message}`)
}

/** Of an IPv4-mapped IPv6 address: what to write in its place. */
export function mappingHint(four: string): string {
  return `is an IPv4 address written as IPv6, as no packet carries it: write ${four}`
}

function fault(code: DiagnosticCode, message: string): Fault {
  return { code, message }
}

/** Somebody else's text inside a message: short, on one line, without anything that is not seen. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text).replace(UNSEEN, escaped)
}

const UNSEEN = /[\x7f-\x9f\p{Cf}\u2028\u2029]/gu

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

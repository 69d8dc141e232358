/**
 * Accounting records as FreeRADIUS writes them (rlm_detail(5)): a line with the date, attributes one a line behind a tab,
 * and an empty line. RFC 2866 says what they mean, RFC 3162 and RFC 4818 which are IPv6.
 */
import { type Prefix, parseAddress, parsePrefix } from '../policy/prefix.ts'
import {
  ALL_PORTS,
  cleanText,
  type Fault,
  fault,
  type LineParser,
  NOBODY,
  type Observation,
  parseMac,
} from './subscriber.ts'

const MOST_ATTRIBUTES = 300

/** Those that are looked at; the first three may be there several times. */
const PREFIXES = ['Framed-IPv6-Prefix', 'Delegated-IPv6-Prefix', 'Framed-IPv6-Address'] as const

export function radiusParser(): LineParser {
  let record = new Map<string, string[]>()
  let size = 0
  const finish = (): readonly (Observation | Fault)[] => {
    const whole = record
    record = new Map()
    size = 0
    return whole.size === 0 ? [] : readRecord(whole)
  }
  return {
    line(text) {
      // A record ends with an empty line, or, where the writer was interrupted, where another begins.
      if (!/^\s+\S/.test(text)) return finish()
      const [, name = '', value = ''] = /^\s+([A-Za-z0-9._-]+)(?::\d+)? \+?= (.*)$/.exec(text) ?? []
      if (name === '') return fault('an attribute is a line such as Acct-Status-Type = Start, behind a tab')
      if (++size > MOST_ATTRIBUTES) return []
      const values = record.get(name) ?? []
      values.push(unquoted(value))
      record.set(name, values)
      return []
    },
  }
}

function readRecord(record: ReadonlyMap<string, readonly string[]>): readonly (Observation | Fault)[] {
  const one = (name: string) => record.get(name)?.[0] ?? ''
  const status = one('Acct-Status-Type')
  if (status === '') return []
  const told = timeOf(one)
  if (told === null) return fault('an accounting record has neither Timestamp nor Event-Timestamp')
  const server = cleanText(one('NAS-Identifier') || one('NAS-IP-Address') || one('NAS-IPv6-Address'))
  if (status === 'Accounting-On' || status === 'Accounting-Off') {
    return server === '' ? [] : [{ what: 'server-restarted', server, at: told }]
  }
  if (!['Start', 'Interim-Update', 'Alive', 'Stop'].includes(status)) return []
  const prefixes = prefixesOf(record)
  if (prefixes.includes(null)) return fault('an accounting record has an address that is none')
  const identity = {
    ...NOBODY,
    account: cleanText(one('User-Name')),
    mac: parseMac(one('Calling-Station-Id')),
    port: cleanText(one('NAS-Port-Id') || one('NAS-Port')),
    server,
  }
  const since = Math.max(0, told - seconds(one('Acct-Session-Time')))
  const until = status === 'Stop' ? told : null
  return prefixes.flatMap((prefix): Observation[] =>
    prefix === null ? [] : [{ what: 'held', prefix, ports: ALL_PORTS, identity, since, until, told }],
  )
}

/** null stands for an address that is none. */
function prefixesOf(record: ReadonlyMap<string, readonly string[]>): (Prefix | null)[] {
  const four = (record.get('Framed-IP-Address') ?? []).map((text) => parseAddress(text))
  const six = PREFIXES.flatMap((name) => record.get(name) ?? []).map((text) => {
    const prefix = parsePrefix(text)
    return typeof prefix === 'string' ? null : prefix
  })
  return [...four, ...six]
}

/** When it happened: packets may have waited to be sent (Acct-Delay-Time). */
function timeOf(one: (name: string) => string): number | null {
  const event = Date.parse(
    one('Event-Timestamp').replace(/^(\w{3} {1,2}\d{1,2} \d{4} [\d:]{8}) [A-Z]{3,4}$/, '$1 UTC'),
  )
  const zone = /(UTC|GMT)$/.test(one('Event-Timestamp'))
  if (zone && !Number.isNaN(event) && event > 0) return Math.floor(event / 1000)
  const written = one('Timestamp')
  if (!/^\d{1,10}$/.test(written)) return null
  return Math.max(0, Number(written) - seconds(one('Acct-Delay-Time')))
}

function seconds(text: string): number {
  return /^\d{1,9}$/.test(text) ? Number(text) : 0
}

function unquoted(value: string): string {
  const text = value.trim()
  if (!/^(".*"|'.*')$/.test(text)) return text
  return text
    .slice(1, -1)
    .replace(/\\([0-7]{3}|.)/g, (_, escaped: string) =>
      escaped.length === 3
        ? String.fromCharCode(Number.parseInt(escaped, 8) & 255)
        : (ESCAPES[escaped] ?? escaped),
    )
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' }

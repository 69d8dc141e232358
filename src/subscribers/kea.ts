/** Lease files of Kea's memfile backend (kea-leases4.csv, kea-leases6.csv), in which the later line of a lease counts. */
import { parsePrefix } from '../policy/prefix.ts'
import {
  ALL_PORTS,
  cleanText,
  type Fault,
  fault,
  type Identity,
  type LineParser,
  macOfDuid,
  NOBODY,
  type Observation,
  parseMac,
} from './subscriber.ts'

/** State 0 of a lease; the others are declined, expired and reclaimed, released, and registered. */
const ASSIGNED = ['', '0', '4']
/** A lease for ever (RFC 2131 §3.3). */
const INFINITE = 0xffffffff
/** A user context longer than this is none of the relay's making. */
const MAX_CONTEXT = 4_096

export function keaParser(): LineParser {
  let columns: ReadonlyMap<string, number> | null = null
  return {
    line(text) {
      if (text === '') return []
      const fields = text.split(',')
      if (columns === null || fields[0] === 'address') {
        columns = new Map(fields.map((name, index) => [name, index]))
        const missing = ['address', 'valid_lifetime', 'expire'].filter((name) => columns?.has(name) !== true)
        return missing.length === 0
          ? []
          : fault(`this is no lease file of Kea: the first line has no ${missing.join(', ')}`)
      }
      const named = columns
      return readLease((name) => fields[named.get(name) ?? -1] ?? '')
    },
  }
}

function readLease(field: (name: string) => string): readonly (Observation | Fault)[] {
  const length = field('lease_type') === '2' ? `/${field('prefix_len')}` : ''
  const prefix = parsePrefix(field('address') + length)
  if (typeof prefix === 'string') return fault('the address is none')
  const lifetime = parseSeconds(field('valid_lifetime'))
  const expire = parseSeconds(field('expire'))
  if (lifetime === null || expire === null) return fault('valid_lifetime and expire must be numbers')
  // How Kea writes that there is no lease any more; the time is the one of the last renewal.
  if (lifetime === 0) return [{ what: 'released', prefix, at: null }]
  if (!ASSIGNED.includes(field('state'))) return []
  const since = Math.max(0, expire - lifetime)
  const identity: Identity = {
    ...NOBODY,
    name: cleanText(unescaped(field('hostname')).replace(/\.$/, '')),
    mac: parseMac(field('hwaddr')) || macOfDuid(field('duid')),
    port: circuitOf(unescaped(field('user_context'))),
  }
  const until = lifetime === INFINITE ? null : expire
  return [{ what: 'held', prefix, ports: ALL_PORTS, identity, since, until, told: since }]
}

function parseSeconds(text: string): number | null {
  return /^\d{1,10}$/.test(text) && Number(text) <= INFINITE ? Number(text) : null
}

/** Commas and the like inside a field are written as `&#x2c`. */
function unescaped(text: string): string {
  return text.replace(/&#x([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/** What the relay said of the access port (RFC 3046 §3.1), where Kea stores extended information. */
function circuitOf(context: string): string {
  if (context === '' || context.length > MAX_CONTEXT) return ''
  try {
    const info = (JSON.parse(context) as { ISC?: { 'relay-agent-info'?: unknown } }).ISC?.['relay-agent-info']
    const hex =
      typeof info === 'string' ? info : (info as { 'sub-options'?: unknown } | undefined)?.['sub-options']
    return typeof hex === 'string' ? circuitIn(Buffer.from(hex.replace(/^0x/, ''), 'hex')) : ''
  } catch {
    return ''
  }
}

const CIRCUIT_ID = 1

function circuitIn(options: Buffer): string {
  for (let offset = 0; offset + 2 <= options.length; offset += 2 + (options[offset + 1] ?? 0)) {
    if (options[offset] === CIRCUIT_ID) {
      return circuitText(options.subarray(offset + 2, offset + 2 + (options[offset + 1] ?? 0)))
    }
  }
  return ''
}

/** As text where it is text, else in hexadecimal. */
export function circuitText(bytes: Buffer): string {
  const text = bytes.toString('latin1')
  return /^[\x20-\x7e]+$/.test(text) ? cleanText(text) : bytes.toString('hex').slice(0, 100)
}

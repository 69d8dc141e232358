/**
 * A list of subscribers as CSV (RFC 4180). The first row names the columns: `address` (or `prefix`, `network`, `ip`), and
 * of `name`, `account`, `contact`, `mac`, `port`, `port_from`, `port_to`, `since` and `until` those that there are. Other
 * columns are not looked at. A field may hold anything but a line's end.
 */
import { parse } from 'csv-parse/sync'
import { parseTimestamp } from '../policy/formats.ts'
import { parsePrefix } from '../policy/prefix.ts'
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

const COLUMNS = [
  'address',
  'name',
  'account',
  'contact',
  'mac',
  'port',
  'port_from',
  'port_to',
  'since',
  'until',
]
const ALIASES: Readonly<Record<string, string>> = { prefix: 'address', network: 'address', ip: 'address' }

export function csvParser(): LineParser {
  let columns: Map<string, number> | null = null
  let delimiter = ','
  return {
    line(text) {
      if (text.trim() === '' || text.startsWith('#')) return []
      if (columns === null) {
        const head = text.replace(/^\ufeff/, '')
        delimiter = [',', ';', '\t'].find((one) => head.includes(one)) ?? ','
        columns = new Map()
        return readHead(fieldsOf(head, delimiter), columns)
      }
      const fields = fieldsOf(text, delimiter)
      if (fields === null) return fault('a field in quotes has no end, or goes on after it')
      const named = columns
      return named.has('address') ? readRow((name) => fields[named.get(name) ?? -1]?.trim() ?? '') : []
    },
  }
}

function readHead(fields: readonly string[] | null, columns: Map<string, number>): readonly Fault[] {
  for (const [index, field] of (fields ?? []).entries()) {
    const written = field.trim().toLowerCase().replaceAll(/[ -]/g, '_')
    const name = ALIASES[written] ?? written
    if (!COLUMNS.includes(name)) continue
    if (columns.has(name)) return fault(`two columns are the ${name}`)
    columns.set(name, index)
  }
  if (columns.has('address')) return []
  return fault('the first row must name the columns, and one of them address: address,name,account,contact')
}

function readRow(field: (name: string) => string): readonly (Observation | Fault)[] {
  const prefix = parsePrefix(field('address'))
  if (prefix === 'host-bits') return fault('the prefix has host bits set')
  if (prefix === 'bad-prefix') return fault('the address is neither an IPv4 nor an IPv6 address or prefix')
  const mac = parseMac(field('mac'))
  if (mac === '' && field('mac') !== '') return fault('the mac must be six bytes such as 02:00:5e:10:00:01')
  const [from, to] = [readPort(field('port_from'), ALL_PORTS.from), readPort(field('port_to'), ALL_PORTS.to)]
  if (from === null || to === null || from > to) {
    return fault('port_from and port_to must be numbers up to 65535, the smaller first')
  }
  const [since, until] = [readTime(field('since')), readTime(field('until'))]
  if (since === undefined || until === undefined) {
    return fault('since and until must be times such as 2026-12-31T00:00:00Z')
  }
  const [name = '', account = '', contact = '', port = ''] = ['name', 'account', 'contact', 'port'].map(
    (column) => cleanText(field(column)),
  )
  const identity = { ...NOBODY, name, account, contact, mac, port }
  return [{ what: 'held', prefix, ports: { from, to }, identity, since, until, told: null }]
}

/** null: there is none. undefined: it is wrong. */
function readTime(text: string): number | null | undefined {
  if (text === '') return null
  const time = parseTimestamp(text)
  return time === null ? undefined : Math.floor(time / 1000)
}

function readPort(text: string, otherwise: number): number | null {
  if (text === '') return otherwise
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535 ? Number(text) : null
}

/** Most rows have no quotes, and there may be a million of them. */
function fieldsOf(text: string, delimiter: string): readonly string[] | null {
  if (!text.includes('"')) return text.split(delimiter)
  try {
    return (parse(text, { delimiter, relax_column_count: true }) as string[][])[0] ?? null
  } catch {
    return null
  }
}

/**
 * dhcpd.leases and dhcpd6.leases of the ISC DHCP server (dhcpd.leases(5)): blocks in braces, of which the later one of a
 * lease counts. Times are in UTC, or seconds since the epoch.
 */
import { parsePrefix } from '../policy/prefix.ts'
import { circuitText } from './kea.ts'
import {
  ALL_PORTS,
  cleanText,
  type Fault,
  fault,
  type LineParser,
  macOfDuid,
  NOBODY,
  type Observation,
  parseMac,
} from './subscriber.ts'

const TOKENS = /"(?:[^"\\]|\\.)*"|[{};]|#.*$|[^\s"{};#]+|"/g
const MOST_STATEMENTS = 200
const MOST_WORDS = 50
const DEEPEST = 4

/** A block that is being read: its first words, and its statements by their first word or two. */
interface Block {
  readonly head: readonly string[]
  readonly statements: Map<string, readonly string[]>
}

export function iscDhcpParser(): LineParser {
  let blocks: Block[] = []
  let words: string[] = []
  let isLost = false

  /** Drops what was begun, and goes on with the next block that starts a line. */
  const lose = (message: string): readonly Fault[] => {
    blocks = []
    words = []
    isLost = true
    return fault(message)
  }
  return {
    line(text) {
      const found: (Observation | Fault)[] = []
      if (/^(lease|ia-[a-z]+)\s/.test(text)) {
        // Blocks begin at the start of a line: what is still open there was never finished.
        if (blocks.length > 0) found.push(...lose('a block before this line has no end'))
        isLost = false
      }
      if (isLost) return found
      for (const [token] of text.matchAll(TOKENS)) {
        if (token.startsWith('#')) break
        if (token === '{') {
          if (blocks.length >= DEEPEST) return [...found, ...lose('blocks are nested too deeply')]
          blocks.push({ head: words, statements: new Map() })
          words = []
        } else if (token === '}') {
          const block = blocks.pop()
          if (block === undefined) return [...found, ...lose('a } without its {')]
          found.push(...readBlock(block, blocks))
          words = []
        } else if (token === ';') {
          const statements = blocks.at(-1)?.statements
          if (statements !== undefined && statements.size < MOST_STATEMENTS) {
            statements.set(nameOf(words), words)
          }
          words = []
        } else if (words.length < MOST_WORDS) words.push(token)
      }
      return found
    },
  }
}

/** `set vendor = …` and `option agent.circuit-id …` are told apart by their second word. */
function nameOf([first = '', second = '']: readonly string[]): string {
  return ['set', 'option', 'binding', 'hardware'].includes(first) ? `${first} ${second}` : first
}

function readBlock({ head, statements }: Block, outer: readonly Block[]): readonly (Observation | Fault)[] {
  const [kind, address = ''] = head
  if (kind === 'lease') return readLease(address, statements, '')
  if (kind !== 'iaaddr' && kind !== 'iaprefix') return []
  const around = outer.at(-1)
  const [family = '', id = ''] = around?.head ?? []
  if (around === undefined || !['ia-na', 'ia-pd', 'ia-ta'].includes(family)) return []
  // When the client was last heard of stands around its addresses.
  const cltt = around.statements.get('cltt')
  const known = cltt === undefined ? statements : new Map([...statements, ['cltt', cltt]])
  // Four bytes of the association's number, then the client's identifier.
  return readLease(address, known, bytesOf(id).subarray(4).toString('hex'))
}

function readLease(
  address: string,
  statements: ReadonlyMap<string, readonly string[]>,
  duid: string,
): readonly (Observation | Fault)[] {
  const prefix = parsePrefix(address)
  if (typeof prefix === 'string') return fault('the address of a lease is none')
  const state = statements.get('binding state')?.[2] ?? 'active'
  if (state === 'abandoned' || state === 'reset') return []
  const starts = readTime(statements.get('starts')) ?? readTime(statements.get('cltt'))
  const ends = readTime(statements.get('ends'))
  if (starts === null || starts === 'never') return []
  if (ends === null) return fault('a lease has no end')
  const identity = {
    ...NOBODY,
    name: cleanText(bytesOf(statements.get('client-hostname')?.[1] ?? '').toString('utf8')),
    mac: parseMac(statements.get('hardware ethernet')?.[2] ?? '') || macOfDuid(duid),
    port: circuitText(bytesOf(statements.get('option agent.circuit-id')?.[2] ?? '')),
  }
  // A lease that is free again still tells who had it, and until when.
  const isOver = state !== 'active'
  if (isOver && (ends === 'never' || ends <= starts || identity.mac === '')) return []
  const until = ends === 'never' ? null : ends
  const told = isOver && until !== null ? until : starts
  return [{ what: 'held', prefix, ports: ALL_PORTS, identity, since: starts, until, told }]
}

/** `starts 4 2026/11/26 01:00:00`, `starts epoch 1795654800` or `ends never`; seconds since the epoch. */
function readTime(words: readonly string[] | undefined): number | 'never' | null {
  const [, first = '', second = '', third = ''] = words ?? []
  if (first === 'never') return 'never'
  if (first === 'epoch') return /^\d{1,10}$/.test(second) ? Number(second) : null
  const [, year, month, day] = /^(\d{4})\/(\d\d)\/(\d\d)$/.exec(second) ?? []
  const time = Date.parse(`${year}-${month}-${day}T${third}Z`)
  return Number.isNaN(time) || time < 0 ? null : Math.floor(time / 1000)
}

/** The bytes of a text in quotes with its octal escapes, or of hexadecimal with colons. */
function bytesOf(token: string): Buffer {
  if (!token.startsWith('"')) return Buffer.from(token.replaceAll(':', ''), 'hex')
  const text = token
    .slice(1, -1)
    .replace(/\\([0-7]{3}|.)/g, (_, escaped: string) =>
      escaped.length === 3 ? String.fromCharCode(Number.parseInt(escaped, 8) & 255) : escaped,
    )
  return Buffer.from(text, 'latin1')
}

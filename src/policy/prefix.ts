/**
 * IP prefixes: parsing, masks and containment.
 *
 * An IPv4 address is a number and an IPv6 address a bigint, each unsigned and in host order, because lists of a
 * million IPv4 prefixes are common and bigints would cost them twice the time.
 */
import { isIPv6 } from 'node:net'

export interface Prefix4 {
  readonly family: 4
  readonly address: number
  readonly length: number
}

export interface Prefix6 {
  readonly family: 6
  readonly address: bigint
  readonly length: number
}

/** A prefix without host bits. A single address is a prefix of length 32 or 128. */
export type Prefix = Prefix4 | Prefix6

export type Family = 4 | 6

export const FAMILIES: readonly Family[] = [4, 6]

export type PrefixFault = 'bad-prefix' | 'host-bits'

const POINT = 46
const SLASH = 47

const ALL_ONES_6 = (1n << 128n) - 1n

/** The bits of an address: 32 or 128. */
export function addressBits(family: Family): number {
  return family === 4 ? 32 : 128
}

/** The netmask of an IPv4 prefix length (0 to 32), as an unsigned number. */
export function mask4(length: number): number {
  return length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0
}

/** The netmask of an IPv6 prefix length (0 to 128). */
export function mask6(length: number): bigint {
  return (ALL_ONES_6 << BigInt(128 - length)) & ALL_ONES_6
}

/** The prefix of the given length that holds the address; a length beyond the prefix's own leaves it as it is. */
export function truncate(prefix: Prefix, length: number): Prefix {
  if (length >= prefix.length) return prefix
  return prefix.family === 4
    ? { family: 4, address: (prefix.address & mask4(length)) >>> 0, length }
    : { family: 6, address: prefix.address & mask6(length), length }
}

/** True when `inner` lies within `outer`; a prefix contains itself. */
export function contains(outer: Prefix, inner: Prefix): boolean {
  if (outer.length > inner.length) return false
  if (outer.family === 4) {
    return inner.family === 4 && (inner.address & mask4(outer.length)) >>> 0 === outer.address
  }
  return inner.family === 6 && (inner.address & mask6(outer.length)) === outer.address
}

/**
 * Reads `192.0.2.0/24`, `2001:db8::/32` or a bare address, in the strict forms of RFC 4632 and RFC 4291: no octal,
 * no short forms, no zone, no white space. IPv4-mapped IPv6 addresses are refused, because packets never carry them.
 */
export function parsePrefix(text: string): Prefix | PrefixFault {
  const four = parsePrefix4(text)
  if (four !== null) return four
  const slash = text.indexOf('/')
  const address = slash < 0 ? text : text.slice(0, slash)
  if (!isIPv6(address) || address.includes('%')) return 'bad-prefix'
  const length = slash < 0 ? 128 : parseLength(text.slice(slash + 1))
  if (length === null) return 'bad-prefix'
  const value = value6(address)
  if (value >> 32n === 0xffffn) return 'bad-prefix'
  return (value & mask6(length)) === value ? { family: 6, address: value, length } : 'host-bits'
}

/** A single address, or null when the text is none. */
export function parseAddress(text: string): Prefix | null {
  if (text.includes('/')) return null
  const prefix = parsePrefix(text)
  return typeof prefix === 'string' ? null : prefix
}

/** Clears the host bits of a text that `parsePrefix` answered `host-bits` for: what the author probably meant. */
export function withoutHostBits(text: string): string {
  const slash = text.indexOf('/')
  const host = parsePrefix(text.slice(0, slash))
  if (typeof host === 'string') return text
  return formatPrefix(truncate(host, Number(text.slice(slash + 1))))
}

/** The IPv4 address or prefix that an IPv4-mapped IPv6 one (RFC 4291 §2.5.5.2) stands for; null: it is none. */
export function withoutMapping(text: string): string | null {
  const [address = '', length] = text.split('/')
  if (!isIPv6(address) || address.includes('%')) return null
  const value = value6(address)
  if (value >> 32n !== 0xffffn) return null
  const four = format4(Number(value & 0xffffffffn))
  if (length === undefined) return four
  const bits = Number(length) - 96
  return bits >= 0 && bits <= 32 ? `${four}/${bits}` : four
}

/** The canonical text: RFC 5952 for IPv6; a single address carries no length. */
export function formatPrefix(prefix: Prefix): string {
  const text = formatAddress(prefix)
  return prefix.length === addressBits(prefix.family) ? text : `${text}/${prefix.length}`
}

/** The first address of the prefix, in canonical text. */
export function formatAddress(prefix: Prefix): string {
  return prefix.family === 4 ? format4(prefix.address) : format6(prefix.address)
}

export function format4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`
}

/** RFC 5952: lower case, the leftmost longest run of two or more zero groups as `::`. */
export function format6(value: bigint): string {
  const groups: number[] = []
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((value >> shift) & 0xffffn))
  let start = -1
  let longest = 1
  for (let i = 0; i < 8; i++) {
    let run = 0
    while (i + run < 8 && groups[i + run] === 0) run++
    if (run > longest) {
      longest = run
      start = i
    }
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':')
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + longest))}`
}

/** In one pass over the characters, because lists have a million of them; null: not in this form at all. */
function parsePrefix4(text: string): Prefix4 | 'host-bits' | null {
  let address = 0
  let octets = 0
  /** What has been read since the last point or slash; -1: nothing. */
  let number = -1
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    const digit = code - 48
    if (digit >= 0 && digit <= 9) {
      // No leading zeros: to some readers they mean octal.
      if (number === 0) return null
      number = number < 0 ? digit : number * 10 + digit
      if (number > 255) return null
    } else {
      if (number < 0 || octets === 4 || code !== (octets === 3 ? SLASH : POINT)) return null
      address = address * 256 + number
      octets++
      number = -1
    }
  }
  if (number < 0 || octets < 3) return null
  if (octets === 3) return { family: 4, address: address * 256 + number, length: 32 }
  if (number > 32) return null
  return (address & mask4(number)) >>> 0 === address ? { family: 4, address, length: number } : 'host-bits'
}

function parseLength(text: string): number | null {
  if (!/^(0|[1-9][0-9]{0,2})$/.test(text)) return null
  const length = Number(text)
  return length <= 128 ? length : null
}

/** Only for the tail of a text that `isIPv6` accepted. */
function value4(text: string): number {
  let value = 0
  let octet = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === 46) {
      value = value * 256 + octet
      octet = 0
    } else octet = octet * 10 + code - 48
  }
  return value * 256 + octet
}

/** Only for text that `isIPv6` accepted. */
function value6(text: string): bigint {
  let hex = text
  const lastColon = text.lastIndexOf(':')
  if (text.includes('.')) {
    const tail = value4(text.slice(lastColon + 1))
    hex = `${text.slice(0, lastColon + 1)}${(tail >>> 16).toString(16)}:${(tail & 0xffff).toString(16)}`
  }
  const [head = '', tail] = hex.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  const zeros = Array<string>(8 - before.length - after.length).fill('0')
  return BigInt(`0x${[...before, ...zeros, ...after].map((group) => group.padStart(4, '0')).join('')}`)
}

/**
 * Packets by hand, down to the last bit, and read again. Nothing here is clever about what makes sense: headers that
 * no honest program would send are what it is for.
 */
import { farMac, nearMac, type Side } from '../../scripts/lab/topology.ts'
import type { Prefix } from '../../src/policy/prefix.ts'

export const PROTOCOL = {
  hopByHop: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  dccp: 33,
  routing: 43,
  fragment: 44,
  gre: 47,
  esp: 50,
  ah: 51,
  icmp6: 58,
  destination: 60,
  sctp: 132,
  udpLite: 136,
} as const

export const FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ece: 64, cwr: 128 } as const

export interface Ends {
  /** Single addresses of one family. */
  readonly source: Prefix
  readonly destination: Prefix
}

export interface Segment {
  readonly sport: number
  readonly dport: number
  readonly flags: number
  readonly seq?: number
  readonly ack?: number
  /** Whole words; padded with zeros, which end the options. */
  readonly options?: Buffer
  readonly payload?: Buffer
  /** Turns a bit of the checksum over. */
  readonly damaged?: boolean
}

export interface Ip4 {
  readonly protocol: number
  readonly options?: Buffer
  readonly id?: number
  /** In units of eight bytes. */
  readonly fragment?: number
  readonly more?: boolean
}

/** An address as a packet carries it. */
export function addressBytes({ family, address }: Prefix): Buffer {
  return Buffer.from(address.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex')
}

/** A TCP segment with its checksum, which covers the addresses too. */
export function tcp(ends: Ends, { sport, dport, flags, ...rest }: Segment): Buffer {
  const { seq = 1, ack = 0, options = Buffer.alloc(0), payload = Buffer.alloc(0), damaged = false } = rest
  const words = Math.ceil(options.length / 4)
  const segment = Buffer.alloc(20 + words * 4 + payload.length)
  segment.writeUInt16BE(sport, 0)
  segment.writeUInt16BE(dport, 2)
  segment.writeUInt32BE(seq, 4)
  segment.writeUInt32BE(ack, 8)
  segment.writeUInt8((5 + words) << 4, 12)
  segment.writeUInt8(flags, 13)
  segment.writeUInt16BE(65_535, 14)
  options.copy(segment, 20)
  payload.copy(segment, 20 + words * 4)
  const sum = transportChecksum(ends, PROTOCOL.tcp, segment)
  segment.writeUInt16BE(damaged ? sum ^ 1 : sum, 16)
  return segment
}

/** A UDP datagram. */
export function udp(ends: Ends, sport: number, dport: number, payload = Buffer.alloc(0)): Buffer {
  const datagram = Buffer.alloc(8 + payload.length)
  datagram.writeUInt16BE(sport, 0)
  datagram.writeUInt16BE(dport, 2)
  datagram.writeUInt16BE(datagram.length, 4)
  payload.copy(datagram, 8)
  datagram.writeUInt16BE(transportChecksum(ends, PROTOCOL.udp, datagram) || 0xffff, 6)
  return datagram
}

/** A whole IPv4 packet; its options are padded with zeros, which end them. */
export function ip4({ source, destination }: Ends, head: Ip4, payload: Buffer): Buffer {
  const { protocol, options = Buffer.alloc(0), id = 1, fragment = 0, more = false } = head
  const words = 5 + Math.ceil(options.length / 4)
  const header = Buffer.alloc(words * 4)
  header.writeUInt8(0x40 | words, 0)
  header.writeUInt16BE(header.length + payload.length, 2)
  header.writeUInt16BE(id, 4)
  header.writeUInt16BE((more ? 0x2000 : 0) | fragment, 6)
  header.writeUInt8(64, 8)
  header.writeUInt8(protocol, 9)
  addressBytes(source).copy(header, 12)
  addressBytes(destination).copy(header, 16)
  options.copy(header, 20)
  header.writeUInt16BE(checksum(header), 10)
  return Buffer.concat([header, payload])
}

/** A whole IPv6 packet; extension headers are part of the payload. */
export function ip6({ source, destination }: Ends, next: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(40)
  header.writeUInt8(0x60, 0)
  header.writeUInt16BE(payload.length, 4)
  header.writeUInt8(next, 6)
  header.writeUInt8(64, 7)
  addressBytes(source).copy(header, 8)
  addressBytes(destination).copy(header, 24)
  return Buffer.concat([header, payload])
}

/** An extension header of IPv6 that says how long it is in words of eight bytes: options, or a routing header. */
export function extension(next: number, body: Buffer): Buffer {
  const header = Buffer.alloc(Math.ceil((2 + body.length) / 8) * 8)
  header.writeUInt8(next, 0)
  header.writeUInt8(header.length / 8 - 1, 1)
  body.copy(header, 2)
  return header
}

/** Options that say nothing, for a hop-by-hop or destination header: PadN of so many bytes. */
export function padding(bytes: number): Buffer {
  return Buffer.from([1, bytes - 2, ...Array<number>(bytes - 2).fill(0)])
}

/** The fragment header of IPv6; the offset in units of eight bytes. */
export function fragment6(next: number, offset: number, more: boolean, id = 1): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt8(next, 0)
  header.writeUInt16BE((offset << 3) | (more ? 1 : 0), 2)
  header.writeUInt32BE(id, 4)
  return header
}

/** The authentication header, with twelve bytes that authenticate nothing. */
export function ah(next: number): Buffer {
  return Buffer.from([next, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, ...Array<number>(12).fill(7)])
}

/** A plain packet of either family. */
export function ip(ends: Ends, protocol: number, payload: Buffer): Buffer {
  return ends.source.family === 4 ? ip4(ends, { protocol }, payload) : ip6(ends, protocol, payload)
}

/** What a side sends to the gateway. */
export function ethernet(side: Side, packet: Buffer): Buffer {
  const mac = (text: string) => Buffer.from(text.replaceAll(':', ''), 'hex')
  const type = (packet[0] ?? 0) >> 4 === 4 ? [0x08, 0x00] : [0x86, 0xdd]
  return Buffer.concat([mac(nearMac(side)), mac(farMac(side)), Buffer.from(type), packet])
}

/** What was read from a plain TCP segment; addresses as prefixes are, a number or a bigint. */
export interface Read {
  readonly family: 4 | 6
  readonly source: number | bigint
  readonly destination: number | bigint
  readonly sport: number
  readonly dport: number
  readonly flags: number
  readonly seq: number
}

/** Reads a frame; null unless it holds a TCP segment right after the IP header, and all of its header. */
export function readTcp(frame: Buffer): Read | null {
  const type = frame.length < 34 ? 0 : frame.readUInt16BE(12)
  const ip4 = type === 0x0800
  const at = ip4 ? 14 + ((frame[14] ?? 0) & 15) * 4 : 54
  if ((!ip4 && type !== 0x86dd) || frame.length < at + 20) return null
  if (frame[ip4 ? 23 : 20] !== PROTOCOL.tcp) return null
  return {
    family: ip4 ? 4 : 6,
    source: ip4 ? frame.readUInt32BE(26) : wide(frame, 22),
    destination: ip4 ? frame.readUInt32BE(30) : wide(frame, 38),
    sport: frame.readUInt16BE(at),
    dport: frame.readUInt16BE(at + 2),
    flags: frame.readUInt8(at + 13),
    seq: frame.readUInt32BE(at + 4),
  }
}

/** The destination of a frame's packet; null when it is no IP. */
export function destinationOf(frame: Buffer): Prefix | null {
  const type = frame.length < 34 ? 0 : frame.readUInt16BE(12)
  if (type === 0x0800) return { family: 4, address: frame.readUInt32BE(30), length: 32 }
  return type === 0x86dd && frame.length >= 54 ? { family: 6, address: wide(frame, 38), length: 128 } : null
}

/** Whether a frame holds a fragment that is not the first, which has no ports. */
export function isLaterFragment(frame: Buffer): boolean {
  const type = frame.length < 34 ? 0 : frame.readUInt16BE(12)
  if (type === 0x0800) return (frame.readUInt16BE(20) & 0x1fff) !== 0
  if (type !== 0x86dd) return false
  let next = frame[20]
  let at = 54
  while (next === PROTOCOL.hopByHop || next === PROTOCOL.destination || next === PROTOCOL.routing) {
    next = frame[at]
    at += ((frame[at + 1] ?? 0) + 1) * 8
  }
  return next === PROTOCOL.fragment && frame.readUInt16BE(at + 2) >> 3 !== 0
}

function wide(frame: Buffer, at: number): bigint {
  return (frame.readBigUInt64BE(at) << 64n) | frame.readBigUInt64BE(at + 8)
}

function transportChecksum({ source, destination }: Ends, protocol: number, data: Buffer): number {
  const pseudo = Buffer.alloc(8)
  pseudo.writeUInt32BE(data.length, 0)
  pseudo.writeUInt32BE(protocol, 4)
  return checksum(Buffer.concat([addressBytes(source), addressBytes(destination), pseudo, data]))
}

/** The Internet checksum (RFC 1071). */
function checksum(data: Buffer): number {
  let sum = 0
  for (let i = 0; i + 1 < data.length; i += 2) sum += data.readUInt16BE(i)
  if (data.length % 2 === 1) sum += (data[data.length - 1] ?? 0) << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

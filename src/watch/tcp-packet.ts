/** The addresses and ports of a TCP packet, from its IP header on (RFC 791, RFC 8200, RFC 9293). */
import type { Prefix } from '../policy/prefix.ts'

export interface TcpPacket {
  readonly source: Prefix
  readonly destination: Prefix
  readonly sourcePort: number
  readonly destinationPort: number
}

const TCP = 6

/** IPv6 extension headers that may stand before TCP: hop-by-hop, routing, fragment, destination options. */
const EXTENSIONS = new Set([0, 43, 44, 60])
const FRAGMENT = 44

/** null when it is no TCP packet, or is cut off before its ports. */
export function parseTcpPacket(packet: Buffer): TcpPacket | null {
  const version = (packet[0] ?? 0) >> 4
  if (version === 4) return parse4(packet)
  return version === 6 ? parse6(packet) : null
}

function parse4(packet: Buffer): TcpPacket | null {
  const header = ((packet[0] ?? 0) & 15) * 4
  if (header < 20 || packet.length < header + 4 || packet[9] !== TCP) return null
  return {
    source: { family: 4, address: packet.readUInt32BE(12), length: 32 },
    destination: { family: 4, address: packet.readUInt32BE(16), length: 32 },
    sourcePort: packet.readUInt16BE(header),
    destinationPort: packet.readUInt16BE(header + 2),
  }
}

function parse6(packet: Buffer): TcpPacket | null {
  if (packet.length < 40) return null
  let next = packet[6] ?? 0
  let offset = 40
  while (EXTENSIONS.has(next) && offset + 8 <= packet.length) {
    const length = next === FRAGMENT ? 8 : ((packet[offset + 1] ?? 0) + 1) * 8
    next = packet[offset] ?? 0
    offset += length
  }
  if (next !== TCP || packet.length < offset + 4) return null
  return {
    source: { family: 6, address: address6(packet, 8), length: 128 },
    destination: { family: 6, address: address6(packet, 24), length: 128 },
    sourcePort: packet.readUInt16BE(offset),
    destinationPort: packet.readUInt16BE(offset + 2),
  }
}

function address6(packet: Buffer, offset: number): bigint {
  return (packet.readBigUInt64BE(offset) << 64n) | packet.readBigUInt64BE(offset + 8)
}

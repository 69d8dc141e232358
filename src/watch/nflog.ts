/** One NFLOG record (LINKTYPE_NFLOG): a header of four bytes, then attributes of length, type and value. */
import { endianness } from 'node:os'

export interface NflogRecord {
  /** The text that the log rule carries. */
  readonly prefix: string
  /** The packet from its network header on, as far as it was copied. */
  readonly payload: Buffer
  readonly uid: number | null
  readonly mac: string | null
  /** The number of the interface by which it came in; null for a packet made on this machine. */
  readonly inputInterface: number | null
}

/** Attribute types of linux/netfilter/nfnetlink_log.h. */
const INPUT_INTERFACE = 4
const HARDWARE_ADDRESS = 8
const PAYLOAD = 9
const PREFIX = 10
const UID = 11

const HOST_IS_LITTLE = endianness() === 'LE'
const MAC_LENGTH = 6

/** null when the record is cut short or has no packet in it. */
export function parseNflog(data: Buffer): NflogRecord | null {
  let prefix: string | null = null
  let payload: Buffer | null = null
  let uid: number | null = null
  let mac: string | null = null
  let inputInterface: number | null = null
  for (let offset = 4; offset + 4 <= data.length; ) {
    // Lengths and types are in the byte order of the host that captured, which is this one; values are big-endian.
    const length = HOST_IS_LITTLE ? data.readUInt16LE(offset) : data.readUInt16BE(offset)
    const type = HOST_IS_LITTLE ? data.readUInt16LE(offset + 2) : data.readUInt16BE(offset + 2)
    if (length < 4 || offset + length > data.length) return null
    const value = data.subarray(offset + 4, offset + length)
    if (type === PREFIX) prefix = value.toString('latin1').replace(/\0.*$/s, '')
    else if (type === PAYLOAD) payload = value
    else if (type === INPUT_INTERFACE && value.length === 4) inputInterface = value.readUInt32BE(0)
    else if (type === UID && value.length === 4) uid = value.readUInt32BE(0)
    else if (
      type === HARDWARE_ADDRESS &&
      value.length >= 4 + MAC_LENGTH &&
      value.readUInt16BE(0) === MAC_LENGTH
    ) {
      mac = value
        .subarray(4, 4 + MAC_LENGTH)
        .toString('hex')
        .replace(/..(?!$)/g, '$&:')
    }
    offset += (length + 3) & ~3
  }
  return prefix === null || payload === null ? null : { prefix, payload, uid, mac, inputInterface }
}

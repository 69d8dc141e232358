/** Decodes a pcap stream as it arrives (draft-ietf-opsawg-pcap): the classic format, either byte order. */

export interface PcapRecord {
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly data: Buffer
}

/** The stream is not what it should be; nothing after this point can be trusted. */
export class PcapError extends Error {
  override readonly name = 'PcapError'
}

const FILE_HEADER = 24
const RECORD_HEADER = 16
const LINKTYPE_NFLOG = 239

/** No NFLOG record comes near this; a larger length means that the stream lost its step. */
const MAX_RECORD = 262_144

/** Keeps at most one unfinished record. */
export class PcapDecoder {
  #pending: Buffer = Buffer.alloc(0)
  #littleEndian: boolean | null = null
  #perMillisecond = 1_000

  /** Takes the next bytes and gives the records that are now whole. @throws PcapError */
  push(chunk: Buffer): PcapRecord[] {
    let buffer = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    if (this.#littleEndian === null) {
      if (buffer.length < FILE_HEADER) {
        this.#pending = buffer
        return []
      }
      this.#readFileHeader(buffer)
      buffer = buffer.subarray(FILE_HEADER)
    }
    const records: PcapRecord[] = []
    while (buffer.length >= RECORD_HEADER) {
      const length = this.#uint32(buffer, 8)
      if (length > MAX_RECORD) throw new PcapError(`a record of ${length} bytes`)
      if (buffer.length < RECORD_HEADER + length) break
      const time =
        this.#uint32(buffer, 0) * 1_000 + Math.floor(this.#uint32(buffer, 4) / this.#perMillisecond)
      records.push({ time, data: buffer.subarray(RECORD_HEADER, RECORD_HEADER + length) })
      buffer = buffer.subarray(RECORD_HEADER + length)
    }
    // A copy, so that a few bytes do not keep a whole chunk alive.
    this.#pending = Buffer.from(buffer)
    return records
  }

  #readFileHeader(header: Buffer): void {
    const magic = header.readUInt32LE(0)
    this.#littleEndian = magic === 0xa1b2c3d4 || magic === 0xa1b23c4d
    const value = this.#littleEndian ? magic : header.readUInt32BE(0)
    if (value !== 0xa1b2c3d4 && value !== 0xa1b23c4d) throw new PcapError('this is not a pcap stream')
    this.#perMillisecond = value === 0xa1b2c3d4 ? 1_000 : 1_000_000
    const link = this.#uint32(header, 20) & 0xffff
    if (link !== LINKTYPE_NFLOG) throw new PcapError(`link type ${link} is not NFLOG`)
  }

  #uint32(buffer: Buffer, offset: number): number {
    return this.#littleEndian ? buffer.readUInt32LE(offset) : buffer.readUInt32BE(offset)
  }
}

/**
 * Many texts in little memory: as bytes in a few large pieces, each distinct text once. A million of them as strings
 * would be a million objects for the garbage collector to visit.
 */
import { SlotTable } from './slot-table.ts'

/** Bytes in one piece; a text lies in one piece as a whole. */
const PIECE = 1 << 20
const LENGTH_BYTES = 2
const MAX_BYTES = 0xffff

export class TextPool {
  readonly #pieces: Buffer[] = []
  /** Where the next text goes, as an offset over all pieces. */
  #end = 0
  /** The offset of each text. */
  readonly #table = new SlotTable((offset) => hashOf(this.#bytesAt(offset)))

  /** Distinct texts. */
  get size(): number {
    return this.#table.size
  }

  /** About how much memory it takes. */
  get bytes(): number {
    return this.#pieces.length * PIECE + this.#table.bytes
  }

  /** The number of a text, the same for the same text. Of a longer one the first 65,535 bytes count. */
  add(text: string): number {
    const bytes = Buffer.from(text, 'utf8').subarray(0, MAX_BYTES)
    const slot = this.#table.slot(hashOf(bytes), (at) => this.#bytesAt(at).equals(bytes))
    const known = this.#table.at(slot)
    if (known >= 0) return known
    const offset = this.#append(bytes)
    this.#table.put(slot, offset)
    return offset
  }

  /** The text with this number, which must be one that was given out. */
  get(offset: number): string {
    return this.#bytesAt(offset).toString('utf8')
  }

  #bytesAt(offset: number): Buffer {
    const piece = this.#pieces[Math.floor(offset / PIECE)]
    if (piece === undefined) throw new RangeError(`no text at ${offset}`)
    const start = offset % PIECE
    const length = piece.readUInt16LE(start)
    return piece.subarray(start + LENGTH_BYTES, start + LENGTH_BYTES + length)
  }

  #append(bytes: Buffer): number {
    const needed = LENGTH_BYTES + bytes.length
    if ((this.#end % PIECE) + needed > PIECE || this.#end === this.#pieces.length * PIECE) {
      this.#end = this.#pieces.length * PIECE
      this.#pieces.push(Buffer.alloc(PIECE))
    }
    const offset = this.#end
    const piece = this.#pieces[Math.floor(offset / PIECE)]
    piece?.writeUInt16LE(bytes.length, offset % PIECE)
    bytes.copy(piece as Buffer, (offset % PIECE) + LENGTH_BYTES)
    this.#end += needed
    return offset
  }
}

/** FNV-1a, with a last stir so that the low bits are good ones. */
function hashOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return stir(hash)
}

/** The end of MurmurHash3: every bit of the number matters to every bit of the answer. */
export function stir(number: number): number {
  let hash = number ^ (number >>> 16)
  hash = Math.imul(hash, 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

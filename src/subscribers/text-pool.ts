/**
 * Many texts in little memory: as bytes in a few large pieces, each distinct text once. A million of them as strings
 * would be a million objects for the garbage collector to visit.
 */

/** Bytes in one piece; a text lies in one piece as a whole. */
const PIECE = 1 << 20
const LENGTH_BYTES = 2
const MAX_BYTES = 0xffff

export class TextPool {
  readonly #pieces: Buffer[] = []
  /** Where the next text goes, as an offset over all pieces. */
  #end = 0
  /** Open addressing: offset + 1 of the text, 0 where nothing is. */
  #slots = new Uint32Array(1_024)
  #count = 0

  /** Distinct texts. */
  get size(): number {
    return this.#count
  }

  /** About how much memory it takes. */
  get bytes(): number {
    return this.#pieces.length * PIECE + this.#slots.byteLength
  }

  /** The number of a text, the same for the same text. Of a longer one the first 65,535 bytes count. */
  add(text: string): number {
    const bytes = Buffer.from(text, 'utf8').subarray(0, MAX_BYTES)
    let slot = hashOf(bytes) & (this.#slots.length - 1)
    for (let at = this.#slots[slot] ?? 0; at !== 0; at = this.#slots[slot] ?? 0) {
      if (this.#bytesAt(at - 1).equals(bytes)) return at - 1
      slot = (slot + 1) & (this.#slots.length - 1)
    }
    const offset = this.#append(bytes)
    this.#slots[slot] = offset + 1
    if (++this.#count * 2 > this.#slots.length) this.#grow()
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

  #grow(): void {
    const old = this.#slots
    this.#slots = new Uint32Array(old.length * 2)
    for (const at of old) {
      if (at === 0) continue
      let slot = hashOf(this.#bytesAt(at - 1)) & (this.#slots.length - 1)
      while (this.#slots[slot] !== 0) slot = (slot + 1) & (this.#slots.length - 1)
      this.#slots[slot] = at
    }
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

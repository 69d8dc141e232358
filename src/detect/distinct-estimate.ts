/**
 * How many distinct keys there were, about, in memory that does not grow: linear counting (Whang, Vander-Zanden, Taylor:
 * A Linear-Time Probabilistic Counting Algorithm, 1990). With m bits it is off by a few per cent up to about 3 m keys.
 */
export class DistinctEstimate {
  readonly #bits: Uint32Array
  #unset: number

  /** `bits` is a power of two from 32 on. */
  constructor(bits: number) {
    this.#bits = new Uint32Array(bits / 32)
    this.#unset = bits
  }

  add(key: number | bigint | string): void {
    const bit = hash(key) & (this.#bits.length * 32 - 1)
    const word = this.#bits[bit >>> 5] ?? 0
    const mask = 1 << (bit & 31)
    if ((word & mask) !== 0) return
    this.#bits[bit >>> 5] = word | mask
    this.#unset--
  }

  get count(): number {
    const size = this.#bits.length * 32
    return Math.round(-size * Math.log(Math.max(1, this.#unset) / size))
  }

  clear(): void {
    this.#bits.fill(0)
    this.#unset = this.#bits.length * 32
  }
}

/** FNV-1a over what the key is made of, then mixed (MurmurHash3's finaliser), so that neighbours do not stay together. */
function hash(key: number | bigint | string): number {
  let sum = 0x811c9dc5
  if (typeof key === 'number') sum = Math.imul(sum ^ (key | 0), 0x01000193)
  else {
    const text = typeof key === 'bigint' ? key.toString(36) : key
    for (let i = 0; i < text.length; i++) sum = Math.imul(sum ^ text.charCodeAt(i), 0x01000193)
  }
  sum = Math.imul(sum ^ (sum >>> 16), 0x85ebca6b)
  sum = Math.imul(sum ^ (sum >>> 13), 0xc2b2ae35)
  return (sum ^ (sum >>> 16)) >>> 0
}

/**
 * Numbers that are found by a hash of what they stand for: open addressing, in parts of which each grows by itself. One
 * table of a million entries would stand still for half a second whenever it doubles; a part of it moves some thousand.
 */

/** As many as the upper bits of a hash tell apart. */
const PARTS = 256
const PART_BITS = 8
const FIRST_SLOTS = 4

interface Part {
  /** Number + 1; 0 where nothing is. */
  slots: Uint32Array
  count: number
}

export class SlotTable {
  readonly #hashOf: (number: number) => number
  readonly #parts: readonly Part[] = Array.from({ length: PARTS }, () => ({
    slots: new Uint32Array(FIRST_SLOTS),
    count: 0,
  }))
  #count = 0
  #bytes = PARTS * FIRST_SLOTS * 4

  /** `hashOf` answers the same 32 bits for what a number stands for, each time; it is asked when the number moves. */
  constructor(hashOf: (number: number) => number) {
    this.#hashOf = hashOf
  }

  /** Slots in use. */
  get size(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The slot of the number that has this hash and is the right one, or the free slot for it; good until `put`. */
  slot(hash: number, isIt: (number: number) => boolean): number {
    const part = hash >>> (32 - PART_BITS)
    const { slots } = this.#parts[part] as Part
    let slot = hash & (slots.length - 1)
    for (let at = slots[slot] ?? 0; at !== 0 && !isIt(at - 1); at = slots[slot] ?? 0) {
      slot = (slot + 1) & (slots.length - 1)
    }
    return slot * PARTS + part
  }

  /** The number in a slot; -1 in a free one. */
  at(slot: number): number {
    return (this.#parts[slot % PARTS]?.slots[Math.floor(slot / PARTS)] ?? 0) - 1
  }

  /** Into a free slot, or in the place of another number with the same hash. At most 2³² − 2. */
  put(slot: number, number: number): void {
    const part = this.#parts[slot % PARTS] as Part
    const at = Math.floor(slot / PARTS)
    const isNew = part.slots[at] === 0
    part.slots[at] = number + 1
    if (!isNew) return
    this.#count++
    if (++part.count * 2 > part.slots.length) this.#grow(part)
  }

  #grow(part: Part): void {
    const old = part.slots
    const slots = new Uint32Array(old.length * 2)
    for (const at of old) {
      if (at === 0) continue
      let slot = this.#hashOf(at - 1) & (slots.length - 1)
      while (slots[slot] !== 0) slot = (slot + 1) & (slots.length - 1)
      slots[slot] = at
    }
    this.#bytes += (slots.length - old.length) * 4
    part.slots = slots
  }
}

/**
 * What nf_tables tells of changes, decoded: netlink(7) messages as the kernel sends them to everybody who listens
 * (linux/netfilter/nf_tables.h). Each transaction is a run of messages and a closing one that names the process.
 */
import { TABLE } from '../compile/nft/names.ts'

/** One transaction that touched our table. */
export interface TableChange {
  readonly pid: number
  readonly program: string
  /** What was done first, in nft's words as far as they need no more than names. */
  readonly what: string
  /** Whether rules (or a chain that went) are all that it touched. */
  readonly rulesOnly: boolean
}

/** Of nlmsghdr(3) and nfgenmsg; all of it in the byte order of the machine, which is little-endian where Node runs. */
const HEADER = 20
const MAX_MESSAGE = 16 * 1024 * 1024
const SUBSYSTEM = 10
const NEW_GENERATION = 15
const RULES_ONLY: ReadonlySet<number> = new Set([5, 6, 8])

/** By the type of the message: what was done, and the attribute that names the thing, if it is not the table itself. */
const DEEDS: Readonly<Record<number, readonly [deed: string, name: number | null]>> = {
  0: ['add table', null],
  2: ['delete table', null],
  3: ['add chain', 3],
  5: ['delete chain', 3],
  6: ['add rule', 2],
  8: ['delete rule', 2],
  9: ['add set', 2],
  11: ['delete set', 2],
  12: ['add element', 2],
  14: ['delete element', 2],
  18: ['add object', 2],
  20: ['delete object', 2],
  22: ['add flowtable', 2],
  24: ['delete flowtable', 2],
}

const [FAMILY_NAME = '', TABLE_NAME = ''] = TABLE.split(' ')
const FAMILIES: Readonly<Record<string, number>> = { inet: 1 }
const FAMILY = FAMILIES[FAMILY_NAME]
/** The table's name as an attribute has it, closing NUL and all. */
const TABLE_BYTES = Buffer.from(`${TABLE_NAME}\0`)

/** Takes bytes as they come, in pieces of any size, and gives back the transactions that they complete. */
export class NftEventDecoder {
  #rest: Buffer = Buffer.alloc(0)
  #what: string | null = null
  #rulesOnly = true
  #generation: number | null = null

  /** The number of the latest transaction of all, whosever table it touched; null before the first. */
  get generation(): number | null {
    return this.#generation
  }

  /** @throws RangeError when the bytes are no such messages */
  decode(bytes: Buffer): TableChange[] {
    const data = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    const changes: TableChange[] = []
    let at = 0
    while (data.length - at >= HEADER) {
      const length = data.readUInt32LE(at)
      if (length < HEADER || length > MAX_MESSAGE) throw new RangeError(`a message of ${length} bytes`)
      if (data.length - at < length) break
      const change = this.#message(data.subarray(at, at + length))
      if (change !== null) changes.push(change)
      at += (length + 3) & ~3
    }
    // What is kept must not hold on to a large piece of which it is the end.
    this.#rest = at < data.length ? Buffer.from(data.subarray(at)) : Buffer.alloc(0)
    return changes
  }

  #message(message: Buffer): TableChange | null {
    const type = message.readUInt16LE(4)
    if (type >> 8 !== SUBSYSTEM) return null
    if ((type & 255) === NEW_GENERATION) {
      const what = this.#what
      this.#what = null
      this.#generation = attribute(message, 1)?.readUInt32BE(0) ?? null
      if (what === null) return null
      const pid = attribute(message, 2)?.readUInt32BE(0) ?? 0
      const program = text(attribute(message, 3))
      return { pid, program, what, rulesOnly: this.#rulesOnly }
    }
    const deed = DEEDS[type & 255]
    if (deed === undefined || message[16] !== FAMILY || attribute(message, 1)?.equals(TABLE_BYTES) !== true)
      return null
    if (this.#what === null) {
      const [words, name] = deed
      const named = name === null ? '' : ` ${text(attribute(message, name))}`
      this.#what = `${words} ${TABLE}${named}`
      this.#rulesOnly = true
    }
    if (!RULES_ONLY.has(type & 255)) this.#rulesOnly = false
    return null
  }
}

/** The value of an attribute; null when the message has none of that type. */
function attribute(message: Buffer, wanted: number): Buffer | null {
  for (let at = HEADER; at + 4 <= message.length; ) {
    const length = message.readUInt16LE(at)
    if (length < 4) return null
    if ((message.readUInt16LE(at + 2) & 0x3fff) === wanted) return message.subarray(at + 4, at + length)
    at += (length + 3) & ~3
  }
  return null
}

function text(value: Buffer | null): string {
  return value === null ? '' : value.toString('latin1').replace(/\0.*$/s, '').slice(0, 200)
}

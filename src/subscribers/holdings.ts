/**
 * Who held which address when: rows of numbers in large pieces, found by a hash of the prefix, each row with a link to
 * the one before of the same prefix. A million rows take about 50 MB besides the texts.
 *
 * Hash flooding: addresses in a lease file are the network's own, and a walk is bounded all the same.
 */
import { type Family, type Prefix, truncate } from '../policy/prefix.ts'
import { Restarts } from './restarts.ts'
import { SlotTable } from './slot-table.ts'
import { ALL_PORTS, IDENTITY_FIELDS, type Identity, type Observation, type Ports } from './subscriber.ts'
import { stir, TextPool } from './text-pool.ts'

export interface Holding {
  readonly prefix: Prefix
  readonly ports: Ports
  readonly identity: Identity
  /** Seconds since the epoch; 0: from before anybody tells. */
  readonly since: number
  /** Not part of it; `NO_END`: no end is known. */
  readonly until: number
}

/** What a row says of its prefix; the identity by its number in the pool, times in seconds since the epoch. */
interface Row {
  readonly identity: number
  readonly since: number
  readonly until: number
  readonly told: number
}

export const NO_END = 0xffffffff

/** Words of a row. */
const [A0, A1, A2, A3, KIND, SINCE, UNTIL] = [0, 1, 2, 3, 4, 5, 6]
const [IDENTITY, PORTS, BEFORE, SEEN, TOLD] = [7, 8, 9, 10, 11]
const WORDS = 12
const ROWS_IN_PIECE = 1 << 14

/** Rows that are gone through before others get their turn. */
const ROWS_IN_TURN = 10_000

/** Of all rows, those that a restart of an access server looks at by itself, and so many at least. */
const SHARE_OF_RESTART = 1 / 2_048
const ROWS_OF_RESTART = 100

/** Rows of one prefix that are looked at; a shared address has up to some thousand ranges of ports. */
const MOST_STEPS = 4_096

/** Seconds between two records of one holder that are one holding: files are rewritten and clocks differ. */
const GRACE = 60

export class Holdings {
  readonly #maxRows: number
  readonly #pool = new TextPool()
  readonly #pieces: Uint32Array[] = []
  #rows = 0
  /** The row of the latest holding of each prefix. */
  readonly #latestRows = new SlotTable((row) => this.#hash(row))
  /** By family: how many rows there are of each length of prefix. */
  readonly #lengths: Record<Family, Map<number, number>> = { 4: new Map(), 6: new Map() }
  #ordered: Record<Family, number[]> = { 4: [], 6: [] }
  readonly #restarts = new Restarts()
  /** Rows before it have been looked at in this round over all of them. */
  #looked = 0
  #pass = 1
  #refused = 0

  constructor(maxRows: number) {
    this.#maxRows = maxRows
  }

  get size(): number {
    return this.#rows
  }

  /** Holdings that found no room. */
  get refused(): number {
    return this.#refused
  }

  /** About how much memory it takes. */
  get bytes(): number {
    return this.#pieces.length * ROWS_IN_PIECE * WORDS * 4 + this.#latestRows.bytes + this.#pool.bytes
  }

  /** Takes what a record says; `now` is when it was true at the latest, in seconds since the epoch. */
  take(observation: Observation, now: number): void {
    switch (observation.what) {
      case 'held': {
        const { prefix, ports, identity, since, until, told } = observation
        this.#hold(prefix, ports, {
          identity: this.#pool.add(packed(identity)),
          since: since ?? now,
          until: Math.max(until ?? NO_END, since ?? now),
          told: told ?? now,
        })
        return
      }
      case 'released':
        this.#end(observation.prefix, observation.at ?? now)
        return
      case 'server-restarted':
        this.#restarted(observation.server, observation.at)
        return
      default:
        observation satisfies never
    }
  }

  /** Begins a reading of a source that tells everything that is: `endPass` ends what it did not name. */
  beginPass(): void {
    this.#pass = this.#pass === NO_END ? 1 : this.#pass + 1
  }

  /**
   * What is open and was not named since `beginPass` is over at the time (seconds since the epoch). Yields as it goes, so
   * that others get their turn; nothing may be taken meanwhile.
   */
  *endPass(at: number): Generator<void, void> {
    for (let row = 0; row < this.#rows; row++) {
      if (row % ROWS_IN_TURN === 0) yield
      if (this.#get(row, SEEN) !== this.#pass && this.#until(row) > at) this.#endRow(row, at)
    }
  }

  /** Who had the address at the time (seconds since the epoch); the longest prefix that somebody had then. */
  find(address: Prefix, time: number, port: number | null): Holding | null {
    for (const length of this.#ordered[address.family]) {
      if (length > address.length) continue
      const prefix = truncate(address, length)
      let steps = 0
      for (let row = this.#latest(prefix); row >= 0 && steps < MOST_STEPS; row = this.#before(row), steps++) {
        const ports = this.#ports(row)
        const isShared = ports.from !== ALL_PORTS.from || ports.to !== ALL_PORTS.to
        if (isShared && (port === null || port < ports.from || port > ports.to)) continue
        if (this.#get(row, SINCE) <= time && time < this.#until(row)) return this.#holding(row, prefix)
      }
    }
    return null
  }

  /**
   * A copy without what ended before the time (seconds since the epoch); null when nothing did. Yields as it goes, so
   * that others get their turn; nothing may be taken meanwhile.
   */
  *without(before: number): Generator<void, Holdings | null> {
    let isOld = false
    for (let row = 0; row < this.#rows && !isOld; row++) {
      if (row % ROWS_IN_TURN === 0) yield
      isOld = this.#until(row) < before
    }
    if (!isOld) return null
    const kept = new Holdings(this.#maxRows)
    kept.#pass = this.#pass
    // Of one prefix the oldest come first, as they came.
    for (let row = 0; row < this.#rows; row++) {
      if (row % ROWS_IN_TURN === 0) yield
      if (this.#until(row) < before) continue
      const prefix = this.#prefix(row)
      kept.#append(prefix, kept.#latestSlot(prefix), this.#ports(row), {
        identity: kept.#pool.add(this.#pool.get(this.#get(row, IDENTITY))),
        since: this.#get(row, SINCE),
        until: this.#get(row, UNTIL),
        told: this.#get(row, TOLD),
      })
      kept.#set(kept.#rows - 1, SEEN, this.#get(row, SEEN))
    }
    return kept
  }

  *all(): Generator<Holding> {
    for (let row = 0; row < this.#rows; row++) yield this.#holding(row, this.#prefix(row))
  }

  #hold(prefix: Prefix, ports: Ports, record: Row): void {
    const { identity, since, until, told } = record
    const slot = this.#latestSlot(prefix)
    /** The latest of these ports: what comes after another ends that one. */
    let latest = -1
    let steps = 0
    for (
      let row = this.#latestRows.at(slot);
      row >= 0 && steps < MOST_STEPS;
      row = this.#before(row), steps++
    ) {
      if (this.#get(row, PORTS) !== wordOf(ports)) continue
      if (latest < 0) latest = row
      const meets = since <= this.#until(row) + GRACE && until + GRACE >= this.#get(row, SINCE)
      if (this.#get(row, IDENTITY) !== identity || !meets) continue
      // It went to another and has come back.
      if (row !== latest && told >= this.#get(latest, TOLD)) continue
      this.#set(row, SEEN, this.#pass)
      if (since < this.#get(row, SINCE)) this.#set(row, SINCE, since)
      // What is read again, or was followed by somebody else, says nothing about now.
      if (row === latest && told >= this.#get(row, TOLD)) {
        this.#set(row, UNTIL, Math.max(until, this.#get(row, SINCE)))
        this.#set(row, TOLD, told)
      }
      return
    }
    const isOlder = latest >= 0 && until <= this.#get(latest, SINCE)
    if (latest >= 0 && !isOlder && this.#until(latest) > since) this.#endRow(latest, since)
    this.#append(prefix, slot, ports, record, isOlder ? latest : -1)
  }

  /** Behind another row of its prefix, or as the latest. */
  #append(
    prefix: Prefix,
    slot: number,
    ports: Ports,
    { identity, since, until, told }: Row,
    behind = -1,
  ): void {
    if (this.#rows >= this.#maxRows) {
      this.#refused++
      return
    }
    const row = this.#rows++
    if (row % ROWS_IN_PIECE === 0) this.#pieces.push(new Uint32Array(ROWS_IN_PIECE * WORDS))
    const words = wordsOf(prefix)
    for (let word = A0; word <= KIND; word++) this.#set(row, word, words[word] ?? 0)
    this.#set(row, SINCE, since)
    this.#set(row, UNTIL, until)
    this.#set(row, IDENTITY, identity)
    this.#set(row, PORTS, wordOf(ports))
    this.#set(row, SEEN, this.#pass)
    this.#set(row, TOLD, told)
    this.#noteLength(prefix)
    if (behind >= 0) {
      this.#set(row, BEFORE, this.#get(behind, BEFORE))
      this.#set(behind, BEFORE, row + 1)
      return
    }
    this.#set(row, BEFORE, this.#latestRows.at(slot) + 1)
    this.#latestRows.put(slot, row)
  }

  #end(prefix: Prefix, at: number): void {
    let steps = 0
    for (let row = this.#latest(prefix); row >= 0 && steps < MOST_STEPS; row = this.#before(row), steps++) {
      if (this.#get(row, SINCE) <= at && at < this.#until(row)) this.#endRow(row, at)
    }
  }

  /** Notes it, and looks at a few rows, so that what is noted can be forgotten some time. */
  #restarted(server: string, at: number): void {
    this.#restarts.note(server, at)
    const end = this.#looked + Math.max(ROWS_OF_RESTART, Math.ceil(this.#rows * SHARE_OF_RESTART))
    while (this.#looked < Math.min(end, this.#rows)) this.#until(this.#looked++)
    if (this.#looked < this.#rows) return
    this.#looked = 0
    this.#restarts.endRound()
  }

  /** When the row is over; what a restart of its server has ended, is told so from now on. */
  #until(row: number): number {
    const until = this.#get(row, UNTIL)
    if (until <= this.#restarts.earliest) return until
    const since = this.#get(row, SINCE)
    const told = this.#get(row, TOLD)
    const end = this.#restarts.endOf(this.#server(row), { since, until, told })
    if (end < until) {
      this.#endRow(row, end)
      this.#set(row, TOLD, end)
    }
    return end
  }

  #server(row: number): string {
    const text = this.#pool.get(this.#get(row, IDENTITY))
    return text.slice(text.lastIndexOf('\n') + 1)
  }

  #endRow(row: number, at: number): void {
    this.#set(row, UNTIL, Math.max(at, this.#get(row, SINCE)))
  }

  #noteLength({ family, length }: Prefix): void {
    const counts = this.#lengths[family]
    const count = counts.get(length) ?? 0
    counts.set(length, count + 1)
    if (count === 0) this.#ordered[family] = [...counts.keys()].sort((a, b) => b - a)
  }

  #latest(prefix: Prefix): number {
    return this.#latestRows.at(this.#latestSlot(prefix))
  }

  /** The slot with the latest row of the prefix, or the empty one where it belongs. */
  #latestSlot(prefix: Prefix): number {
    const words = wordsOf(prefix)
    return this.#latestRows.slot(hashOf(words), (row) => this.#isOf(row, words))
  }

  #isOf(row: number, words: Uint32Array): boolean {
    for (let word = A0; word <= KIND; word++) if (this.#get(row, word) !== words[word]) return false
    return true
  }

  #hash(row: number): number {
    for (let word = A0; word <= KIND; word++) MOVED[word] = this.#get(row, word)
    return hashOf(MOVED)
  }

  #before(row: number): number {
    return this.#get(row, BEFORE) - 1
  }

  #ports(row: number): Ports {
    const word = this.#get(row, PORTS)
    return { from: word >>> 16, to: word & 0xffff }
  }

  #prefix(row: number): Prefix {
    const kind = this.#get(row, KIND)
    const length = kind & 0xff
    if (kind >>> 8 === 4) return { family: 4, address: this.#get(row, A3), length }
    const address = [A0, A1, A2, A3].reduce((sum, word) => (sum << 32n) | BigInt(this.#get(row, word)), 0n)
    return { family: 6, address, length }
  }

  #holding(row: number, prefix: Prefix): Holding {
    return {
      prefix,
      ports: this.#ports(row),
      identity: unpacked(this.#pool.get(this.#get(row, IDENTITY))),
      since: this.#get(row, SINCE),
      until: this.#until(row),
    }
  }

  #get(row: number, word: number): number {
    return this.#pieces[row >>> 14]?.[(row & (ROWS_IN_PIECE - 1)) * WORDS + word] ?? 0
  }

  #set(row: number, word: number, value: number): void {
    const piece = this.#pieces[row >>> 14]
    if (piece !== undefined) piece[(row & (ROWS_IN_PIECE - 1)) * WORDS + word] = value
  }
}

/** The first words of a row, address and kind; good until the next call. */
function wordsOf({ family, address, length }: Prefix): Uint32Array {
  SCRATCH[KIND] = (family << 8) | length
  if (family === 4) {
    SCRATCH[A0] = SCRATCH[A1] = SCRATCH[A2] = 0
    SCRATCH[A3] = address as number
    return SCRATCH
  }
  const value = address as bigint
  SCRATCH[A0] = Number(value >> 96n)
  SCRATCH[A1] = Number((value >> 64n) & 0xffffffffn)
  SCRATCH[A2] = Number((value >> 32n) & 0xffffffffn)
  SCRATCH[A3] = Number(value & 0xffffffffn)
  return SCRATCH
}
const SCRATCH = new Uint32Array(KIND + 1)
const MOVED = new Uint32Array(KIND + 1)

function hashOf(words: Uint32Array): number {
  let hash = 0
  for (const word of words) hash = stir(Math.imul(hash, 31) ^ word)
  return hash
}

function wordOf({ from, to }: Ports): number {
  return ((from << 16) | to) >>> 0
}

function packed(identity: Identity): string {
  return IDENTITY_FIELDS.map((field) => identity[field]).join('\n')
}

function unpacked(text: string): Identity {
  const [name = '', account = '', contact = '', mac = '', port = '', server = ''] = text.split('\n')
  return { name, account, contact, mac, port, server }
}

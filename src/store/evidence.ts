/** What came of connections of observed machines, by day; and where the kernel's counters of it stood. */
import type { DatabaseSync } from 'node:sqlite'

export interface Counters {
  readonly packets: number
  readonly bytes: number
}

/** A counter of the kernel as it was read. */
export interface Reading extends Counters {
  /** The learned set, and the address in it as nft prints it. */
  readonly set: string
  readonly address: string
  /** What it counts, and of which machine. */
  readonly what: string
  readonly source: string
}

const DAY = 86_400_000
/** The kernel forgets a counter a day after its last packet. */
const COUNTER_KEPT = 2 * DAY

export class EvidenceStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /**
   * Takes what was counted since the reading before, for the day of the time (milliseconds since the epoch). At most
   * `most` counters that have moved are taken; the rest waits for the next time. In a transaction of the caller.
   */
  take(readings: readonly Reading[], now: number, most: number): void {
    const before = this.#database.prepare(
      'SELECT packets, bytes FROM evidence_counters WHERE name = ? AND address = ?',
    )
    const note = this.#database.prepare(
      `INSERT INTO evidence_counters (name, address, packets, bytes, seen) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET packets = excluded.packets, bytes = excluded.bytes, seen = excluded.seen`,
    )
    const add = this.#database.prepare(
      `INSERT INTO evidence (source, what, day, packets, bytes) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET packets = packets + excluded.packets, bytes = bytes + excluded.bytes`,
    )
    let taken = 0
    for (const { set, address, what, source, packets, bytes } of readings) {
      const row = before.get(set, address)
      const [knownPackets, knownBytes] = [Number(row?.['packets'] ?? 0), Number(row?.['bytes'] ?? 0)]
      if (row !== undefined && knownPackets === packets) continue
      // A counter that came back smaller began afresh.
      const isSame = packets >= knownPackets && bytes >= knownBytes
      add.run(
        source,
        what,
        Math.floor(now / DAY),
        isSame ? packets - knownPackets : packets,
        isSame ? bytes - knownBytes : bytes,
      )
      note.run(set, address, packets, bytes, now)
      if (++taken >= most) return
    }
  }

  /** Sums of a machine by what was counted, from a time on (milliseconds since the epoch, by whole days). */
  of(source: string, from: number): Map<string, Counters> {
    return new Map(
      this.#database
        .prepare(
          `SELECT what, sum(packets) AS packets, sum(bytes) AS bytes FROM evidence
           WHERE source = ? AND day >= ? GROUP BY what`,
        )
        .all(source, Math.floor(from / DAY))
        .map((row) => [
          String(row['what']),
          { packets: Number(row['packets']), bytes: Number(row['bytes']) },
        ]),
    )
  }

  /** Forgets what is from before the time (milliseconds since the epoch). */
  prune(before: number, now: number): void {
    this.#database.prepare('DELETE FROM evidence WHERE day < ?').run(Math.floor(before / DAY))
    this.#database.prepare('DELETE FROM evidence_counters WHERE seen < ?').run(now - COUNTER_KEPT)
  }
}

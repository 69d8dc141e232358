/** Messages that have yet to arrive, in the order in which they were written. */
import type { DatabaseSync } from 'node:sqlite'

export interface OutboxEntry {
  readonly id: number
  readonly body: string
  readonly key: string
  readonly tries: number
}

export class Outbox {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** The key makes a message unique within its channel: written twice, it is sent once. */
  add(channel: string, key: string, body: string): void {
    this.#database
      .prepare('INSERT OR IGNORE INTO outbox (channel, key, body) VALUES (?, ?, ?)')
      .run(channel, key, body)
  }

  /** The channel's oldest message, with the time of its next try in milliseconds since the epoch. */
  next(channel: string): (OutboxEntry & { readonly nextTry: number }) | null {
    const row = this.#database
      .prepare('SELECT id, key, body, tries, next_try FROM outbox WHERE channel = ? ORDER BY id LIMIT 1')
      .get(channel)
    if (row === undefined) return null
    return {
      id: Number(row['id']),
      key: String(row['key']),
      body: String(row['body']),
      tries: Number(row['tries']),
      nextTry: Number(row['next_try']),
    }
  }

  postpone(id: number, nextTry: number): void {
    this.#database.prepare('UPDATE outbox SET tries = tries + 1, next_try = ? WHERE id = ?').run(nextTry, id)
  }

  remove(id: number): void {
    this.#database.prepare('DELETE FROM outbox WHERE id = ?').run(id)
  }

  /** Messages waiting, by channel. */
  waiting(): Map<string, number> {
    const rows = this.#database
      .prepare('SELECT channel, count(*) AS waiting FROM outbox GROUP BY channel')
      .all()
    return new Map(rows.map((row) => [String(row['channel']), Number(row['waiting'])]))
  }
}

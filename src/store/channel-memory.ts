/** What each channel of alerts must still know after a restart. */
import type { DatabaseSync } from 'node:sqlite'

export class ChannelMemory {
  readonly #database: DatabaseSync
  readonly #channel: string

  constructor(database: DatabaseSync, channel: string) {
    this.#database = database
    this.#channel = channel
  }

  get(key: string): string | null {
    const row = this.#database
      .prepare('SELECT value FROM channel_memory WHERE channel = ? AND key = ?')
      .get(this.#channel, key)
    return row === undefined ? null : String(row['value'])
  }

  all(): Map<string, string> {
    const rows = this.#database
      .prepare('SELECT key, value FROM channel_memory WHERE channel = ?')
      .all(this.#channel)
    return new Map(rows.map(({ key, value }) => [String(key), String(value)]))
  }

  put(key: string, value: string): void {
    this.#database
      .prepare(
        `INSERT INTO channel_memory (channel, key, value) VALUES (?, ?, ?)
         ON CONFLICT (channel, key) DO UPDATE SET value = excluded.value`,
      )
      .run(this.#channel, key, value)
  }

  remove(key: string): void {
    this.#database.prepare('DELETE FROM channel_memory WHERE channel = ? AND key = ?').run(this.#channel, key)
  }
}

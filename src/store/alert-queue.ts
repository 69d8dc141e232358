/** News that channels have yet to be told, in the order in which it was left; each piece becomes part of one message. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'

export interface LeftNews {
  readonly channel: string
  /** Unique within the channel: left twice, it is told once. */
  readonly key: string
  /** Milliseconds since the epoch. */
  readonly time: number
  /** JSON. */
  readonly body: string
}

export interface QueuedNews extends LeftNews {
  readonly id: number
}

export class AlertQueue {
  readonly #leave: StatementSync
  readonly #after: StatementSync
  readonly #body: StatementSync
  readonly #remove: StatementSync
  readonly #drop: StatementSync
  readonly #dropped: StatementSync
  readonly #said: StatementSync
  readonly #prune: StatementSync

  constructor(database: DatabaseSync) {
    this.#leave = database.prepare(
      `INSERT OR IGNORE INTO alert_queue (channel, key, time, body) VALUES (?, ?, ?, ?)`,
    )
    this.#after = database.prepare(
      'SELECT * FROM alert_queue WHERE channel = ? AND id > ? ORDER BY id LIMIT ?',
    )
    this.#body = database.prepare('SELECT key, body FROM alert_queue WHERE id = ?')
    this.#remove = database.prepare('DELETE FROM alert_queue WHERE id = ?')
    this.#drop = database.prepare(
      `INSERT INTO alert_drops (channel, dropped, unsaid) VALUES (:channel, :count, :count)
       ON CONFLICT (channel) DO UPDATE SET dropped = dropped + :count, unsaid = unsaid + :count`,
    )
    this.#dropped = database.prepare('SELECT dropped, unsaid FROM alert_drops WHERE channel = ?')
    this.#prune = database.prepare(
      'DELETE FROM alert_queue WHERE time < ? AND channel NOT IN (SELECT value FROM json_each(?))',
    )
    this.#said = database.prepare('UPDATE alert_drops SET unsaid = unsaid - ? WHERE channel = ?')
  }

  leave({ channel, key, time, body }: LeftNews): void {
    this.#leave.run(channel, key, time, body)
  }

  /** What was left for a channel after the news of that id. */
  after(channel: string, id: number, limit: number): QueuedNews[] {
    return this.#after.all(channel, id, limit).map((row) => ({
      id: Number(row['id']),
      channel,
      key: String(row['key']),
      time: Number(row['time']),
      body: String(row['body']),
    }))
  }

  read(id: number): { key: string; body: string } {
    const row = this.#body.get(id)
    return { key: String(row?.['key']), body: String(row?.['body']) }
  }

  remove(id: number): void {
    this.#remove.run(id)
  }

  /** Throws news away that there is no room for, and counts it. */
  drop(channel: string, ids: readonly number[]): void {
    for (const id of ids) this.remove(id)
    this.#drop.run({ channel, count: ids.length })
  }

  /** Forgets what waits since before the time for a channel that there is not any more. */
  prune(channels: readonly string[], before: number): void {
    this.#prune.run(before, JSON.stringify(channels))
  }

  /** How much was thrown away in all, and since the channel was told so last. */
  dropped(channel: string): { readonly all: number; readonly unsaid: number } {
    const row = this.#dropped.get(channel)
    return { all: Number(row?.['dropped'] ?? 0), unsaid: Number(row?.['unsaid'] ?? 0) }
  }

  /** The channel is told of so much that was thrown away. */
  said(channel: string, count: number): void {
    if (count > 0) this.#said.run(count, channel)
  }
}

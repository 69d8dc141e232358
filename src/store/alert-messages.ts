/** Messages to channels: those that have yet to arrive, those that could not, and for a while those that have. */
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite'

export const MESSAGE_STATES = ['waiting', 'sent', 'dead'] as const
export type MessageState = (typeof MESSAGE_STATES)[number]

export interface NewMessage {
  readonly channel: string
  /** Unique within the channel. */
  readonly key: string
  /** When what it tells of happened, in milliseconds since the epoch, as all times here. */
  readonly time: number
  readonly created: number
  /** JSON. */
  readonly body: string
  /** The incidents that it tells of. */
  readonly incidents: readonly string[]
}

export interface StoredMessage extends NewMessage {
  readonly id: number
  readonly state: MessageState
  readonly tries: number
  readonly nextTry: number
  /** Why it did not arrive the last time. */
  readonly error: string | null
  /** When it arrived, or was given up. */
  readonly settled: number | null
}

export interface MessageQuery {
  readonly channel?: string
  readonly state?: MessageState
  readonly limit: number
  /** The id of the last one of the page before. */
  readonly before?: number
}

/** Of each channel so many that have arrived are kept to be looked at. */
const MOST_SENT = 1_000
const MOST_DEAD = 10_000

export class AlertMessages {
  readonly #database: DatabaseSync
  readonly #add: StatementSync
  readonly #due: StatementSync
  readonly #settle: StatementSync
  readonly #postpone: StatementSync

  constructor(database: DatabaseSync) {
    this.#database = database
    this.#add = database.prepare(
      `INSERT OR IGNORE INTO alert_messages (channel, key, time, created, body, incidents)
       VALUES (?, ?, ?, ?, ?, ?)`,
    )
    this.#due = database.prepare(
      `SELECT * FROM alert_messages WHERE channel = ? AND state = 'waiting' AND next_try <= ? ORDER BY id LIMIT ?`,
    )
    this.#settle = database.prepare(
      `UPDATE alert_messages SET state = ?, tries = tries + 1, settled = ?, error = ? WHERE id = ?`,
    )
    this.#postpone = database.prepare(
      'UPDATE alert_messages SET tries = tries + 1, next_try = ?, error = ? WHERE id = ?',
    )
  }

  /** Its id; null: there was one with that key before. */
  add({ channel, key, time, created, body, incidents }: NewMessage): number | null {
    const { changes, lastInsertRowid } = this.#add.run(
      channel,
      key,
      time,
      created,
      body,
      JSON.stringify(incidents),
    )
    return Number(changes) === 0 ? null : Number(lastInsertRowid)
  }

  /** The oldest whose time has come. */
  due(channel: string, now: number, limit: number): StoredMessage[] {
    return this.#due.all(channel, now, limit).map(parse)
  }

  /** When the next one's time comes; null: none waits for its time. */
  nextTry(channel: string, now: number): number | null {
    const row = this.#database
      .prepare(
        `SELECT min(next_try) AS next FROM alert_messages
         WHERE channel = ? AND state = 'waiting' AND next_try > ?`,
      )
      .get(channel, now)
    const next = row?.['next'] ?? null
    return next === null ? null : Number(next)
  }

  /** All that have not arrived yet. */
  undelivered(channel: string): Pick<StoredMessage, 'id' | 'incidents'>[] {
    return this.#database
      .prepare(`SELECT id, incidents FROM alert_messages WHERE channel = ? AND state = 'waiting' ORDER BY id`)
      .all(channel)
      .map(({ id, incidents }) => ({ id: Number(id), incidents: JSON.parse(String(incidents)) }))
  }

  /** It has arrived, or is given up for the reason. */
  settle(id: number, state: 'sent' | 'dead', now: number, error: string | null): void {
    this.#settle.run(state, now, error, id)
  }

  postpone(id: number, nextTry: number, error: string): void {
    this.#postpone.run(nextTry, error, id)
  }

  /** Takes up again what was given up, or sends once more what has arrived. */
  resend(id: number, now: number): void {
    this.#database
      .prepare(
        `UPDATE alert_messages SET state = 'waiting', created = ?, tries = 0, next_try = 0, error = NULL,
         settled = NULL WHERE id = ?`,
      )
      .run(now, id)
  }

  /** The same for all of a channel that were given up; the oldest first. */
  resendDead(channel: string, now: number): Pick<StoredMessage, 'id' | 'incidents'>[] {
    return this.#database
      .prepare(
        `UPDATE alert_messages SET state = 'waiting', created = ?, tries = 0, next_try = 0, error = NULL,
         settled = NULL WHERE channel = ? AND state = 'dead' RETURNING id, incidents`,
      )
      .all(now, channel)
      .map(({ id, incidents }) => ({ id: Number(id), incidents: JSON.parse(String(incidents)) }))
      .sort((a, b) => a.id - b.id)
  }

  get(id: number): StoredMessage | null {
    const row = this.#database.prepare('SELECT * FROM alert_messages WHERE id = ?').get(id)
    return row === undefined ? null : parse(row)
  }

  /** The latest first. */
  list({ channel, state, limit, before }: MessageQuery): StoredMessage[] {
    return this.#database
      .prepare(
        `SELECT * FROM alert_messages
         WHERE (:channel IS NULL OR channel = :channel) AND (:state IS NULL OR state = :state)
           AND (:before IS NULL OR id < :before)
         ORDER BY id DESC LIMIT :limit`,
      )
      .all({ channel: channel ?? null, state: state ?? null, before: before ?? null, limit })
      .map(parse)
  }

  /** Times at which messages of a channel were made since then, the earliest first. */
  createdSince(channel: string, since: number): number[] {
    return this.#database
      .prepare('SELECT created FROM alert_messages WHERE channel = ? AND created > ? ORDER BY created')
      .all(channel, since)
      .map(({ created }) => Number(created))
  }

  count(channel: string, state: MessageState): number {
    const row = this.#database
      .prepare('SELECT count(*) AS found FROM alert_messages WHERE channel = ? AND state = ?')
      .get(channel, state)
    return Number(row?.['found'])
  }

  /**
   * Forgets what arrived, or was given up, before these times, what waits since before then for a channel that there is
   * not any more, and of each channel what is beyond the latest.
   */
  prune(channels: readonly string[], before: { readonly sent: number; readonly dead: number }): void {
    const old = this.#database.prepare('DELETE FROM alert_messages WHERE state = ? AND settled < ?')
    old.run('sent', before.sent)
    old.run('dead', before.dead)
    this.#database
      .prepare(
        `DELETE FROM alert_messages WHERE state = 'waiting' AND created < ?
         AND channel NOT IN (SELECT value FROM json_each(?))`,
      )
      .run(before.dead, JSON.stringify(channels))
    const beyond = this.#database.prepare(
      `DELETE FROM alert_messages WHERE channel = :channel AND state = :state AND id <= (
         SELECT id FROM alert_messages WHERE channel = :channel AND state = :state
         ORDER BY id DESC LIMIT 1 OFFSET :most)`,
    )
    for (const channel of channels) {
      beyond.run({ channel, state: 'sent', most: MOST_SENT })
      beyond.run({ channel, state: 'dead', most: MOST_DEAD })
    }
  }
}

function parse(row: Record<string, SQLOutputValue>): StoredMessage {
  return {
    id: Number(row['id']),
    channel: String(row['channel']),
    key: String(row['key']),
    state: String(row['state']) as MessageState,
    time: Number(row['time']),
    created: Number(row['created']),
    body: String(row['body']),
    incidents: JSON.parse(String(row['incidents'])),
    tries: Number(row['tries']),
    nextTry: Number(row['next_try']),
    error: row['error'] === null ? null : String(row['error']),
    settled: row['settled'] === null ? null : Number(row['settled']),
  }
}

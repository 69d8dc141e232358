/** Answers to requests with an `Idempotency-Key`, so that one that is repeated is answered and not done again. */
import type { DatabaseSync } from 'node:sqlite'
import { inTransaction } from './database.ts'

export interface StoredAnswer {
  /** Of method, address and body: the same key for something else is a mistake. */
  readonly fingerprint: string
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export const IDEMPOTENCY_SCHEMA = `CREATE TABLE answers (
  caller TEXT NOT NULL,
  key TEXT NOT NULL,
  time INTEGER NOT NULL,
  fingerprint TEXT NOT NULL,
  status INTEGER NOT NULL,
  headers TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (caller, key)
) STRICT;
CREATE INDEX answers_by_time ON answers (time);`

/** Milliseconds for which an answer is kept, and how many and how large all of them may be (characters). */
const KEPT = 86_400_000
const MOST = 10_000
const MOST_TEXT = 64 * 1024 * 1024

/** Adding up takes time, so it is done now and then; so many may be there beyond. */
const BETWEEN_PRUNING = 100

export class AnswerStore {
  readonly #database: DatabaseSync
  #kept = 0

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  find(caller: string, key: string, now: number): StoredAnswer | null {
    const row = this.#database
      .prepare('SELECT * FROM answers WHERE caller = ? AND key = ? AND time > ?')
      .get(caller, key, now - KEPT)
    if (row === undefined) return null
    return {
      fingerprint: String(row['fingerprint']),
      status: Number(row['status']),
      headers: JSON.parse(String(row['headers'])),
      body: String(row['body']),
    }
  }

  /** Keeps it in place of the oldest. */
  keep(caller: string, key: string, { fingerprint, status, headers, body }: StoredAnswer, now: number): void {
    inTransaction(this.#database, () => {
      this.#database
        .prepare('INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)')
        .run(caller, key, now, fingerprint, status, JSON.stringify(headers), body)
      if (this.#kept++ % BETWEEN_PRUNING === 0) this.#prune(now)
    })
  }

  #prune(now: number): void {
    this.#database.prepare('DELETE FROM answers WHERE time <= ?').run(now - KEPT)
    for (;;) {
      const { count, text } = this.#database
        .prepare('SELECT count(*) AS count, coalesce(sum(length(body)), 0) AS text FROM answers')
        .get() as { count: number; text: number }
      if (count <= MOST && text <= MOST_TEXT) return
      this.#database
        .prepare('DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers ORDER BY time LIMIT 100)')
        .run()
    }
  }
}

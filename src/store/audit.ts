/** Who changed what, and who was refused: the latest of it, to be asked for. All of it is in the log. */
import type { DatabaseSync } from 'node:sqlite'
import type { Role } from '../caller.ts'
import { inTransaction } from './database.ts'

export interface AuditRecord {
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly requestId: string
  /** null: nobody that is known. */
  readonly caller: string | null
  readonly role: Role | null
  /** Where the request came from; null over the unix socket. */
  readonly address: string | null
  readonly method: string
  readonly url: string
  readonly status: number
  /** Of the problem that was answered. */
  readonly code: string | null
}

export interface AuditEntry extends AuditRecord {
  /** Grows in the order in which they were written. */
  readonly id: number
}

export interface AuditQuery {
  readonly caller?: string
  readonly outcome?: 'done' | 'refused'
  /** As in the last entry of the page before. */
  readonly before?: number
  readonly limit: number
}

export const AUDIT_SCHEMA = `CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  request_id TEXT NOT NULL,
  caller TEXT,
  role TEXT,
  address TEXT,
  method TEXT NOT NULL,
  url TEXT NOT NULL,
  status INTEGER NOT NULL,
  code TEXT
) STRICT;`

/** Entries that are kept, and records that wait to be written. */
const MOST = 50_000
const MOST_WAITING = 5_000

export class AuditStore {
  readonly #database: DatabaseSync
  #waiting: AuditRecord[] = []

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Remembered at the next flush: a request need not wait for the disk. */
  add(record: AuditRecord): void {
    if (this.#waiting.length < MOST_WAITING) this.#waiting.push(record)
  }

  /** @throws Error when the database cannot be written; then they wait on */
  flush(): void {
    if (this.#waiting.length === 0) return
    inTransaction(this.#database, () => {
      const insert = this.#database.prepare(
        `INSERT INTO audit (time, request_id, caller, role, address, method, url, status, code)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      for (const { time, requestId, caller, role, address, method, url, status, code } of this.#waiting)
        insert.run(time, requestId, caller, role, address, method, url, status, code)
      this.#database.prepare('DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?').run(MOST)
    })
    this.#waiting = []
  }

  /** The latest first. */
  list({ caller, outcome, before, limit }: AuditQuery): AuditEntry[] {
    return this.#database
      .prepare(
        `SELECT * FROM audit
         WHERE (:before IS NULL OR id < :before) AND (:caller IS NULL OR caller = :caller)
           AND (:refused IS NULL OR (status >= 400) = :refused)
         ORDER BY id DESC LIMIT :limit`,
      )
      .all({
        before: before ?? null,
        caller: caller ?? null,
        refused: outcome === undefined ? null : Number(outcome === 'refused'),
        limit,
      })
      .map((row) => ({
        id: Number(row['id']),
        time: Number(row['time']),
        requestId: String(row['request_id']),
        caller: row['caller'] as string | null,
        role: row['role'] as Role | null,
        address: row['address'] as string | null,
        method: String(row['method']),
        url: String(row['url']),
        status: Number(row['status']),
        code: row['code'] as string | null,
      }))
  }
}

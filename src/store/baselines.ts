/** What relays and exempt hosts usually do, kept over restarts. */
import type { DatabaseSync } from 'node:sqlite'
import type { Baseline } from '../detect/exempt-host.ts'
import { machineKey } from '../detect/machine-key.ts'
import { inTransaction } from './database.ts'

export class BaselineStore {
  readonly #database: DatabaseSync
  readonly #onFailed: (error: Error) => void

  /** What cannot be kept is learned again: a full disk is told, and costs nothing else. */
  constructor(database: DatabaseSync, onFailed: (error: Error) => void) {
    this.#database = database
    this.#onFailed = onFailed
  }

  all(): Baseline[] {
    return this.#database
      .prepare('SELECT source, since, attempts, destinations, at FROM baselines ORDER BY at')
      .all()
      .map((row) => ({
        ...subjectOf(String(row['source'])),
        since: Number(row['since']),
        attempts: Number(row['attempts']),
        destinations: Number(row['destinations']),
        at: Number(row['at']),
      }))
  }

  save(baselines: readonly Baseline[]): void {
    // A reading of counters that ends after the service has, brings nothing that was not saved at its end.
    if (baselines.length === 0 || !this.#database.isOpen) return
    try {
      inTransaction(this.#database, () => {
        const insert = this.#database.prepare(
          `INSERT INTO baselines (source, since, attempts, destinations, at) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (source) DO UPDATE SET since = excluded.since, attempts = excluded.attempts,
             destinations = excluded.destinations, at = excluded.at`,
        )
        for (const { source, uid, since, attempts, destinations, at } of baselines) {
          insert.run(machineKey(source, uid), since, attempts, destinations, at)
        }
      })
    } catch (error) {
      this.#onFailed(error as Error)
    }
  }

  /** Forgets hosts that were last seen before the time, in milliseconds since the epoch. */
  prune(before: number): void {
    this.#database.prepare('DELETE FROM baselines WHERE at < ?').run(before)
  }
}

/** What `machineKey` has put together. */
function subjectOf(key: string): Pick<Baseline, 'source' | 'uid'> {
  const [, uid, source] = /^(\d+)@(.*)$/.exec(key) ?? []
  return source === undefined ? { source: key, uid: null } : { source, uid: Number(uid) }
}

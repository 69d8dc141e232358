/**
 * The file that remembers attempts. It is apart from the one with incidents and messages, because it can be lost: it is
 * written often and need not be synced each time, it grows, and what is damaged in it is better begun anew than mended.
 */
import { renameSync, rmSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { LEVELS } from './attempts-levels.ts'
import { inTransaction } from './database.ts'

/** Raised with each change of the tables; a file with another number is set aside. */
const VERSION = 1

/**
 * Rows of sums are in the order of time: what is written now then lies on few pages, and what is old goes page by page.
 * `allowed` 1 is a relay or an exempt host; `kernel` is where its counter stood, `balance` what `Ledger` says.
 * Ids of machines are never given out again, because sums may outlive a forgotten machine.
 */
const SCHEMA = `
  CREATE TABLE detail (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,
    source BLOB NOT NULL, source_port INTEGER NOT NULL, destination BLOB NOT NULL, interface TEXT,
    policy TEXT, verdict TEXT NOT NULL, because TEXT, uid INTEGER, mac TEXT
  ) STRICT;
  CREATE TABLE labels (
    id INTEGER PRIMARY KEY, policy TEXT NOT NULL, verdict TEXT NOT NULL, because TEXT NOT NULL,
    UNIQUE (policy, verdict, because)
  ) STRICT;
  CREATE TABLE machines (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, allowed INTEGER NOT NULL,
    first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, label INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0, balance INTEGER NOT NULL DEFAULT 0, kernel INTEGER,
    UNIQUE (source, allowed)
  ) STRICT;
  CREATE TABLE totals (id TEXT PRIMARY KEY, packets INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE destinations (
    day INTEGER NOT NULL, machine INTEGER NOT NULL, destination BLOB NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (day, machine, destination)
  ) STRICT, WITHOUT ROWID;
  ${LEVELS.map(
    ({ step }) => `
  CREATE TABLE machine_${step} (
    time INTEGER NOT NULL, machine INTEGER NOT NULL, attempts INTEGER NOT NULL, told INTEGER NOT NULL,
    destinations INTEGER NOT NULL, label INTEGER, PRIMARY KEY (time, machine)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE label_${step} (
    time INTEGER NOT NULL, label INTEGER NOT NULL, attempts INTEGER NOT NULL, told INTEGER NOT NULL,
    PRIMARY KEY (time, label)
  ) STRICT, WITHOUT ROWID;`,
  ).join('')}
  PRAGMA user_version = ${VERSION};`

/** Sums of weeks machine by machine: a ranking of a quarter year then adds up what it reads, and sorts nothing. */
export const WEEKS_BY_MACHINE = 'weeks_by_machine'
const INDEXES = `CREATE INDEX IF NOT EXISTS ${WEEKS_BY_MACHINE} ON machine_week (machine, time, attempts)`

/** SQLite's primary result codes (sqlite3.h). */
const SQLITE_CORRUPT = 11
const SQLITE_NOTADB = 26

/** A file that is sound, but not one of this version. */
class OtherVersionError extends Error {}

/** Ids by key: of more than there is room for, all are forgotten, and looked up again. */
class Remembered {
  readonly #ids = new Map<string, number>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  get(key: string): number | undefined {
    return this.#ids.get(key)
  }

  set(key: string, id: number): void {
    if (this.#ids.size >= this.#most && !this.#ids.has(key)) this.#ids.clear()
    this.#ids.set(key, id)
  }

  clear(): void {
    this.#ids.clear()
  }
}

/** The file and its prepared statements. */
export class AttemptsDatabase {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  /** Ids of machines and of labels, as they were written last. */
  readonly machines = new Remembered(20_000)
  readonly labels = new Remembered(1_000)

  /** Opens or makes the file. @throws Error when it cannot be opened, is damaged, or of another version */
  constructor(path: string) {
    this.#database = new DatabaseSync(path, { timeout: 250 })
    try {
      // In normal mode a crash of ours loses nothing that was committed, and a power cut damages nothing.
      this.#database.exec(
        'PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 16777216; PRAGMA cache_size = -16384',
      )
      const version = Number(this.#database.prepare('PRAGMA user_version').get()?.['user_version'])
      if (version === 0) inTransaction(this.#database, () => this.#database.exec(SCHEMA))
      else if (version !== VERSION) throw new OtherVersionError(`it is of version ${version}, not ${VERSION}`)
      this.#database.exec(INDEXES)
    } catch (error) {
      this.#database.close()
      throw error
    }
  }

  /** The same text is prepared once: only for a bounded number of texts. */
  prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  inTransaction<T>(work: () => T): T {
    try {
      return inTransaction(this.#database, work)
    } catch (error) {
      // What was given out in it will be somebody else's.
      this.machines.clear()
      this.labels.clear()
      throw error
    }
  }

  /** Bytes in use; the file may be larger. */
  size(): number {
    const number = (pragma: string) => Number(this.prepare(`PRAGMA ${pragma}`).get()?.[pragma])
    return (number('page_count') - number('freelist_count')) * number('page_size')
  }

  close(): void {
    this.#statements.clear()
    this.#database.close()
  }
}

/** Whether what went wrong will go wrong again until the file is another. */
export function isUnusable(error: unknown): boolean {
  if (error instanceof OtherVersionError) return true
  const { errcode } = error as { errcode?: unknown }
  // An extended code has the primary one in its lowest byte.
  const code = typeof errcode === 'number' ? errcode & 0xff : 0
  return code === SQLITE_CORRUPT || code === SQLITE_NOTADB
}

/** Puts the file out of the way, over what was set aside before; answers where it is. */
export function setAside(path: string): string {
  const aside = `${path}.damaged`
  for (const suffix of ['-wal', '-shm']) rmSync(path + suffix, { force: true })
  renameSync(path, aside)
  return aside
}

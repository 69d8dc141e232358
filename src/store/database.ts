/** What must survive a crash: one SQLite file. */
import { DatabaseSync } from 'node:sqlite'

/** Each step is run once, in order; a step that was released is never changed. */
const MIGRATIONS = [
  `CREATE TABLE incidents (
     id TEXT PRIMARY KEY,
     state TEXT NOT NULL,
     kind TEXT NOT NULL,
     source TEXT NOT NULL,
     last_seen INTEGER NOT NULL,
     body TEXT NOT NULL
   ) STRICT;
   CREATE INDEX incidents_by_time ON incidents (last_seen DESC, id DESC);
   CREATE TABLE outbox (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     channel TEXT NOT NULL,
     key TEXT NOT NULL,
     body TEXT NOT NULL,
     tries INTEGER NOT NULL DEFAULT 0,
     next_try INTEGER NOT NULL DEFAULT 0,
     UNIQUE (channel, key)
   ) STRICT;`,
  `CREATE TABLE announced_lapses (
     name TEXT NOT NULL,
     expires INTEGER NOT NULL,
     lead INTEGER NOT NULL,
     PRIMARY KEY (name, expires, lead)
   ) STRICT, WITHOUT ROWID;`,
  'CREATE INDEX IF NOT EXISTS incidents_by_source ON incidents (source, last_seen DESC);',
  `CREATE TABLE IF NOT EXISTS history_journal (
     number INTEGER PRIMARY KEY AUTOINCREMENT,
     entry TEXT NOT NULL
   ) STRICT;
   CREATE TABLE IF NOT EXISTS exemption_requests (
     number INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     stage TEXT NOT NULL,
     requester TEXT NOT NULL,
     exemption TEXT NOT NULL,
     changed INTEGER NOT NULL,
     body TEXT NOT NULL
   ) STRICT;
   CREATE INDEX IF NOT EXISTS exemption_requests_by_stage ON exemption_requests (stage, number DESC);`,
  // Who had the address then: JSON of a Subscriber.
  'ALTER TABLE incidents ADD COLUMN subscriber TEXT;',
  `CREATE TABLE baselines (
     source TEXT PRIMARY KEY,
     since INTEGER NOT NULL,
     attempts REAL NOT NULL,
     destinations REAL NOT NULL,
     at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE evidence (
     source TEXT NOT NULL, what TEXT NOT NULL, day INTEGER NOT NULL,
     packets INTEGER NOT NULL, bytes INTEGER NOT NULL,
     PRIMARY KEY (source, what, day)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE evidence_counters (
     name TEXT NOT NULL, address TEXT NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL,
     seen INTEGER NOT NULL, PRIMARY KEY (name, address)
   ) STRICT, WITHOUT ROWID;`,
  // What waited in the one queue of before waits in the new one.
  `CREATE TABLE alert_queue (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     channel TEXT NOT NULL,
     key TEXT NOT NULL,
     time INTEGER NOT NULL,
     body TEXT NOT NULL,
     UNIQUE (channel, key)
   ) STRICT;
   CREATE INDEX alert_queue_by_channel ON alert_queue (channel, id);
   CREATE TABLE alert_drops (
     channel TEXT PRIMARY KEY,
     dropped INTEGER NOT NULL,
     unsaid INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE alert_messages (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     channel TEXT NOT NULL,
     key TEXT NOT NULL,
     state TEXT NOT NULL DEFAULT 'waiting',
     time INTEGER NOT NULL,
     created INTEGER NOT NULL,
     body TEXT NOT NULL,
     incidents TEXT NOT NULL,
     tries INTEGER NOT NULL DEFAULT 0,
     next_try INTEGER NOT NULL DEFAULT 0,
     error TEXT,
     settled INTEGER,
     UNIQUE (channel, key)
   ) STRICT;
   CREATE INDEX alert_messages_by_state ON alert_messages (channel, state, id);
   CREATE TABLE alert_reminders (
     channel TEXT NOT NULL,
     incident TEXT NOT NULL,
     number INTEGER NOT NULL,
     PRIMARY KEY (incident, channel)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE alert_silences (
     id TEXT PRIMARY KEY,
     until INTEGER NOT NULL,
     body TEXT
   ) STRICT;
   CREATE TABLE alert_silenced (
     silence TEXT PRIMARY KEY,
     news INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE alert_standing (
     subject TEXT PRIMARY KEY,
     since INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   INSERT INTO alert_queue (channel, key, time, body)
     SELECT channel, key, CAST(strftime('%s', json_extract(body, '$.time')) AS INTEGER) * 1000,
       json_set(body, '$.severity', 'warning', '$.occurrence', 1, '$.network', NULL)
     FROM outbox WHERE json_valid(body) ORDER BY id;
   DROP TABLE outbox;`,
  `CREATE TABLE channel_memory (
     channel TEXT NOT NULL,
     key TEXT NOT NULL,
     value TEXT NOT NULL,
     PRIMARY KEY (channel, key)
   ) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE due_revocations (
     incident TEXT NOT NULL,
     name TEXT NOT NULL,
     exemption TEXT NOT NULL,
     reason TEXT NOT NULL,
     time INTEGER NOT NULL,
     begun INTEGER NOT NULL DEFAULT 0,
     PRIMARY KEY (incident, name)
   ) STRICT, WITHOUT ROWID;`,
]

/** Opens or makes the file and brings it up to date. @throws Error when it cannot be opened or is from a later version */
export function openDatabase(path: string, migrations: readonly string[] = MIGRATIONS): DatabaseSync {
  // Waiting blocks everything else; and nobody but us should write here.
  const database = new DatabaseSync(path, { timeout: 250 })
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
  if (version > migrations.length) {
    throw new Error(`${path} was written by a later version of egress25`)
  }
  for (const [index, step] of migrations.entries()) {
    if (index >= version)
      inTransaction(database, () => database.exec(`${step} PRAGMA user_version = ${index + 1}`))
  }
  return database
}

/**
 * A second way to the same file, for what may be lost by a power cut, because it is then done again: its transactions
 * are not synced each. A process that is killed loses nothing of it.
 */
export function openRelaxed(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: 250 })
  database.exec('PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON')
  return database
}

/** All that the work writes, or nothing of it. */
export function inTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    database.exec('COMMIT')
    return result
  } catch (error) {
    // SQLite has done so itself where the disk is full or broken.
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

/** SQLite's results (<https://www.sqlite.org/rescode.html>) that are faults of ours; the others are of the disk, or somebody else's lock. */
const OUR_FAULTS = [1, 2, 12, 18, 19, 20, 21, 25]

/** Whether it is the database that cannot be read or written at present, and not what was asked of it. */
export function isUnwritable(error: unknown): boolean {
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown }
  return code === 'ERR_SQLITE_ERROR' && typeof errcode === 'number' && !OUR_FAULTS.includes(errcode & 0xff)
}

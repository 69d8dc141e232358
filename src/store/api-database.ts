/** What the API must remember: tokens, the audit, and answers that may be asked for again. A file of its own. */
import { chownSync, existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { AUDIT_SCHEMA } from './audit.ts'
import { openDatabase } from './database.ts'
import { IDEMPOTENCY_SCHEMA } from './idempotency.ts'
import { TOKEN_SCHEMA } from './tokens.ts'

const MIGRATIONS = [`${TOKEN_SCHEMA}\n${AUDIT_SCHEMA}\n${IDEMPOTENCY_SCHEMA}`]

/** @throws Error when it cannot be opened, or is from a later version */
export function openApiDatabase(stateDirectory: string): DatabaseSync {
  mkdirSync(stateDirectory, { recursive: true })
  const path = join(stateDirectory, 'api.db')
  const database = openDatabase(path, MIGRATIONS)
  // What root makes, before there was a service, the service must be able to write.
  if (process.getuid?.() === 0) {
    const { uid, gid } = statSync(stateDirectory)
    for (const file of [path, `${path}-wal`, `${path}-shm`]) if (existsSync(file)) chownSync(file, uid, gid)
  }
  return database
}

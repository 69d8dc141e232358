/** What the API must remember: tokens, the audit, and answers that may be asked for again. A file of its own. */
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { AUDIT_SCHEMA } from './audit.ts'
import { openDatabase } from './database.ts'
import { IDEMPOTENCY_SCHEMA } from './idempotency.ts'
import { TOKEN_SCHEMA } from './tokens.ts'

const MIGRATIONS = [`${TOKEN_SCHEMA}\n${AUDIT_SCHEMA}\n${IDEMPOTENCY_SCHEMA}`]

/** @throws Error when it cannot be opened, or is from a later version */
export function openApiDatabase(stateDirectory: string): DatabaseSync {
  return openDatabase(join(stateDirectory, 'api.db'), MIGRATIONS)
}

/** Tokens of the API: what is stored of one is enough to recognise it, and not enough to use it. */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'
import type { Role } from '../caller.ts'

/** Times are milliseconds since the epoch. */
export interface Token {
  /** Grows from token to token. */
  readonly number: number
  /** Part of the token itself, and no secret. */
  readonly id: string
  readonly name: string
  readonly role: Role
  readonly created: number
  readonly createdBy: string
  readonly expires: number
  readonly revoked: number | null
  /** To the minute. */
  readonly lastUsed: number | null
}

export interface NewToken {
  readonly name: string
  readonly role: Role
  readonly expires: number
  readonly by: string
}

/** A token that is in force has this name already. */
export class TokenExistsError extends Error {}
export class TooManyTokensError extends Error {}

export const TOKEN_SCHEMA = `CREATE TABLE tokens (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  hash BLOB NOT NULL,
  created INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires INTEGER NOT NULL,
  revoked INTEGER,
  last_used INTEGER
) STRICT;`

const MOST = 1_000
const MINUTE = 60_000
/** The secret has 256 bits, so nobody guesses it, and one round of SHA-256 is as good as many. */
const FORM = /^egress25_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/

interface Known {
  token: Token
  readonly hash: Uint8Array
}

export class TokenStore {
  readonly #database: DatabaseSync
  /** All of them by their ids: each request asks. */
  readonly #known = new Map<string, Known>()
  #everMade: boolean

  constructor(database: DatabaseSync) {
    this.#database = database
    for (const row of database.prepare('SELECT * FROM tokens ORDER BY number').all()) {
      const token = parse(row)
      this.#known.set(token.id, { token, hash: row['hash'] as Uint8Array })
    }
    // SQLite remembers the number, also of rows that are gone.
    this.#everMade =
      database.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'tokens'").get() !== undefined
  }

  /** Whether there ever was a token: revoking the last one must not open what tokens guard. */
  get everMade(): boolean {
    return this.#everMade
  }

  /** The token, and the text by which its holder is known, which is told this once. @throws TokenExistsError, TooManyTokensError */
  create(
    { name, role, expires, by }: NewToken,
    now: number,
  ): { readonly token: Token; readonly secret: string } {
    const inForce = [...this.#known.values()].filter(({ token }) => isInForce(token, now))
    if (inForce.length >= MOST) throw new TooManyTokensError(`there are ${MOST} tokens; revoke some first`)
    if (inForce.some(({ token }) => token.name === name))
      throw new TokenExistsError(`there is a token ${name}; revoke it first, or take another name`)
    const id = randomBytes(6).toString('hex')
    const random = randomBytes(32).toString('base64url')
    const digest = digestOf(random)
    const { lastInsertRowid } = this.#database
      .prepare(
        'INSERT INTO tokens (id, name, role, hash, created, created_by, expires) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(id, name, role, digest, now, by, expires)
    const number = Number(lastInsertRowid)
    const token = {
      number,
      id,
      name,
      role,
      created: now,
      createdBy: by,
      expires,
      revoked: null,
      lastUsed: null,
    }
    this.#known.set(id, { token, hash: digest })
    this.#everMade = true
    return { token, secret: `egress25_${id}_${random}` }
  }

  /** Whose it is; null when it is none of ours, revoked or expired. Takes the same time for all secrets of an id. */
  find(secret: string, now: number): Token | null {
    const [, id = '', random = ''] = FORM.exec(secret) ?? []
    const known = this.#known.get(id)
    if (known === undefined || !timingSafeEqual(known.hash, digestOf(random))) return null
    if (!isInForce(known.token, now)) return null
    if (now - (known.token.lastUsed ?? 0) > MINUTE) this.#used(known, now)
    return known.token
  }

  get(id: string): Token | null {
    return this.#known.get(id)?.token ?? null
  }

  /** In the order in which they were made, after that number. */
  list(after: number, limit: number): Token[] {
    return [...this.#known.values()]
      .map(({ token }) => token)
      .filter(({ number }) => number > after)
      .slice(0, limit)
  }

  /** From now on nobody knows it; false when there is no such token. */
  revoke(id: string, now: number): boolean {
    const known = this.#known.get(id)
    if (known === undefined) return false
    if (known.token.revoked !== null) return true
    this.#database.prepare('UPDATE tokens SET revoked = ? WHERE id = ?').run(now, id)
    known.token = { ...known.token, revoked: now }
    return true
  }

  /** Forgets those that ended before the time. */
  prune(before: number): void {
    for (const [id, { token }] of this.#known) {
      if (Math.min(token.expires, token.revoked ?? Number.POSITIVE_INFINITY) >= before) continue
      this.#database.prepare('DELETE FROM tokens WHERE id = ?').run(id)
      this.#known.delete(id)
    }
  }

  /** Whoever may come in does so, whether or not it can be written down. */
  #used(known: Known, now: number): void {
    known.token = { ...known.token, lastUsed: now }
    try {
      this.#database.prepare('UPDATE tokens SET last_used = ? WHERE id = ?').run(now, known.token.id)
    } catch {
      // A full disk; it is told where it matters.
    }
  }
}

export function isInForce({ revoked, expires }: Pick<Token, 'revoked' | 'expires'>, now: number): boolean {
  return revoked === null && now < expires
}

function digestOf(random: string): Buffer {
  return hash('sha256', random, 'buffer')
}

function parse(row: Record<string, unknown>): Token {
  return {
    number: Number(row['number']),
    id: String(row['id']),
    name: String(row['name']),
    role: row['role'] as Role,
    created: Number(row['created']),
    createdBy: String(row['created_by']),
    expires: Number(row['expires']),
    revoked: row['revoked'] === null ? null : Number(row['revoked']),
    lastUsed: row['last_used'] === null ? null : Number(row['last_used']),
  }
}

/** Which ends of exemptions were announced, in the database. */
import type { DatabaseSync } from 'node:sqlite'

/** `expires` in milliseconds since the epoch. */
interface End {
  readonly name: string
  readonly expires: number
}

export class LapseStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** The shortest lead (milliseconds; 0: the end itself) announced of each end, by `EXPIRES NAME`. */
  announced(): Map<string, number> {
    const rows = this.#database
      .prepare('SELECT name, expires, min(lead) AS lead FROM announced_lapses GROUP BY name, expires')
      .all()
    return new Map(rows.map(({ name, expires, lead }) => [`${expires} ${name}`, Number(lead)]))
  }

  remember({ name, expires }: End, lead: number): void {
    this.#database
      .prepare('INSERT OR IGNORE INTO announced_lapses (name, expires, lead) VALUES (?, ?, ?)')
      .run(name, expires, lead)
  }

  endedBefore(time: number): End[] {
    return this.#database
      .prepare('SELECT DISTINCT name, expires FROM announced_lapses WHERE expires < ?')
      .all(time)
      .map(({ name, expires }) => ({ name: String(name), expires: Number(expires) }))
  }

  forget({ name, expires }: End): void {
    this.#database.prepare('DELETE FROM announced_lapses WHERE name = ? AND expires = ?').run(name, expires)
  }
}

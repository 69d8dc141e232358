/** Revocations of exemptions that were decided and are not done, in the database: a crash in between forgets none. */
import type { DatabaseSync } from 'node:sqlite'
import type { ExemptionDocument } from '../policy/schema.ts'

export interface DueRevocation {
  /** Because of which it is. */
  readonly incident: string
  /** As it was in force when it was decided. */
  readonly exemption: ExemptionDocument
  /** In words, for the history. */
  readonly reason: string
  /** When it was decided, in milliseconds since the epoch. */
  readonly time: number
  /** The exemption is being removed: when it is found to be gone, this removed it. */
  readonly begun: boolean
}

type Name = Pick<DueRevocation, 'incident'> & { readonly exemption: Pick<ExemptionDocument, 'name'> }

export class DueRevocations {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** In the order in which they were decided. */
  all(): DueRevocation[] {
    return this.#database
      .prepare('SELECT incident, exemption, reason, time, begun FROM due_revocations ORDER BY time, name')
      .all()
      .map(({ incident, exemption, reason, time, begun }) => ({
        incident: String(incident),
        exemption: JSON.parse(String(exemption)),
        reason: String(reason),
        time: Number(time),
        begun: begun === 1,
      }))
  }

  /** Durable when it returns, as all that follows. */
  add({ incident, exemption, reason, time }: DueRevocation): void {
    this.#database
      .prepare(
        'INSERT OR IGNORE INTO due_revocations (incident, name, exemption, reason, time) VALUES (?, ?, ?, ?, ?)',
      )
      .run(incident, exemption.name, JSON.stringify(exemption), reason, time)
  }

  begin({ incident, exemption }: Name): void {
    this.#database
      .prepare('UPDATE due_revocations SET begun = 1 WHERE incident = ? AND name = ?')
      .run(incident, exemption.name)
  }

  remove({ incident, exemption }: Name): void {
    this.#database
      .prepare('DELETE FROM due_revocations WHERE incident = ? AND name = ?')
      .run(incident, exemption.name)
  }

  /** Forgets all that are due because of an incident. */
  forget(incident: string): void {
    this.#database.prepare('DELETE FROM due_revocations WHERE incident = ?').run(incident)
  }

  clear(): void {
    this.#database.exec('DELETE FROM due_revocations')
  }
}

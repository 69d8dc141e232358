/** Changes that git does not have yet, in the database. */
import type { DatabaseSync } from 'node:sqlite'
import type { Journal, JournalEntry } from '../history/journal.ts'
import { inTransaction } from './database.ts'

export class HistoryJournal implements Journal {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  add(entry: JournalEntry): number {
    const { lastInsertRowid } = this.#database
      .prepare('INSERT INTO history_journal (entry) VALUES (?)')
      .run(JSON.stringify(entry))
    return Number(lastInsertRowid)
  }

  together<T>(work: () => T): T {
    return inTransaction(this.#database, work)
  }

  remove(numbers: readonly number[]): void {
    const statement = this.#database.prepare('DELETE FROM history_journal WHERE number = ?')
    inTransaction(this.#database, () => {
      for (const number of numbers) statement.run(number)
    })
  }

  all(): { number: number; entry: JournalEntry }[] {
    return this.#database
      .prepare('SELECT number, entry FROM history_journal ORDER BY number')
      .all()
      .map(({ number, entry }) => ({
        number: Number(number),
        entry: JSON.parse(String(entry)) as JournalEntry,
      }))
  }
}

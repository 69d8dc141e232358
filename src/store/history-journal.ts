/** Changes that git does not have yet, in the database. */
import type { DatabaseSync } from 'node:sqlite'
import type { Journal, JournalEntry } from '../history/journal.ts'
import { inTransaction } from './database.ts'

export class HistoryJournal implements Journal {
  readonly #database: DatabaseSync
  /** Still there, although what they tell was not made: a start would take them for changes that have yet to be committed. */
  #cancelled: readonly number[] = []

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  add(entry: JournalEntry): number {
    this.#removeCancelled()
    const { lastInsertRowid } = this.#database
      .prepare('INSERT INTO history_journal (entry) VALUES (?)')
      .run(JSON.stringify(entry))
    return Number(lastInsertRowid)
  }

  together<T>(work: () => T): T {
    // Before, as what the work does may be undone.
    this.#removeCancelled()
    return inTransaction(this.#database, work)
  }

  remove(numbers: readonly number[]): void {
    const statement = this.#database.prepare('DELETE FROM history_journal WHERE number = ?')
    inTransaction(this.#database, () => {
      for (const number of numbers) statement.run(number)
    })
  }

  cancel(number: number): void {
    this.#cancelled = [...this.#cancelled, number]
    try {
      this.#removeCancelled()
    } catch {
      // Why the change was not made is what its caller has to hear; the next one is told of this.
    }
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

  #removeCancelled(): void {
    if (this.#cancelled.length === 0) return
    this.remove(this.#cancelled)
    this.#cancelled = []
  }
}

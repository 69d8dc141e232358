/** What was told already, where nothing else remembers it: reminders by their number, and what is wrong and still stands. */
import type { DatabaseSync } from 'node:sqlite'

export class AlertMarks {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** The number of the latest reminder, by incident. */
  reminders(channel: string): Map<string, number> {
    const rows = this.#database
      .prepare('SELECT incident, number FROM alert_reminders WHERE channel = ?')
      .all(channel)
    return new Map(rows.map(({ incident, number }) => [String(incident), Number(number)]))
  }

  reminded(channel: string, incident: string, number: number): void {
    this.#database
      .prepare(
        `INSERT INTO alert_reminders (channel, incident, number) VALUES (?, ?, ?)
         ON CONFLICT (channel, incident) DO UPDATE SET number = excluded.number`,
      )
      .run(channel, incident, number)
  }

  /** The incident is over. */
  forget(incident: string): void {
    this.#database.prepare('DELETE FROM alert_reminders WHERE incident = ?').run(incident)
  }

  /** Subjects that were told to be wrong, with the time of that (milliseconds since the epoch). */
  standing(): Map<string, number> {
    const rows = this.#database.prepare('SELECT subject, since FROM alert_standing').all()
    return new Map(rows.map(({ subject, since }) => [String(subject), Number(since)]))
  }

  stands(subject: string, since: number): void {
    this.#database
      .prepare('INSERT OR IGNORE INTO alert_standing (subject, since) VALUES (?, ?)')
      .run(subject, since)
  }

  isOver(subject: string): void {
    this.#database.prepare('DELETE FROM alert_standing WHERE subject = ?').run(subject)
  }
}

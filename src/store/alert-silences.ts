/** Silences that people have made, and how much news each silence has swallowed, also those of the configuration. */
import type { DatabaseSync } from 'node:sqlite'

export class AlertSilences {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** `body` is JSON, `until` in milliseconds since the epoch. */
  save(id: string, until: number, body: string): void {
    this.#database
      .prepare(
        `INSERT INTO alert_silences (id, until, body) VALUES (?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET until = excluded.until, body = excluded.body`,
      )
      .run(id, until, body)
  }

  /** All of them, as JSON. */
  all(): string[] {
    return this.#database
      .prepare('SELECT body FROM alert_silences ORDER BY until, id')
      .all()
      .map(({ body }) => String(body))
  }

  count(id: string, news: number): void {
    this.#database
      .prepare(
        `INSERT INTO alert_silenced (silence, news) VALUES (:id, :news)
         ON CONFLICT (silence) DO UPDATE SET news = news + :news`,
      )
      .run({ id, news })
  }

  silenced(): Map<string, number> {
    const rows = this.#database.prepare('SELECT silence, news FROM alert_silenced').all()
    return new Map(rows.map(({ silence, news }) => [String(silence), Number(news)]))
  }

  /** Forgets silences that ended before the time. */
  prune(before: number): void {
    this.#database
      .prepare('DELETE FROM alert_silenced WHERE silence IN (SELECT id FROM alert_silences WHERE until < ?)')
      .run(before)
    this.#database.prepare('DELETE FROM alert_silences WHERE until < ?').run(before)
  }
}

/** Incidents in the database. */
import type { DatabaseSync } from 'node:sqlite'
import type { Incident } from '../detect/incident.ts'
import type { Subscriber } from '../subscribers/subscriber.ts'

export interface IncidentQuery {
  readonly state?: Incident['state']
  readonly kind?: string
  readonly limit: number
  /** As given back with the page before. */
  readonly after?: { readonly lastSeen: number; readonly id: string }
}

export class IncidentStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Writes an incident as it now stands. */
  save(incident: Incident): void {
    const { id, state, kind, source, lastSeen } = incident
    this.#database
      .prepare(
        `INSERT INTO incidents (id, state, kind, source, last_seen, body) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, kind = excluded.kind,
           last_seen = excluded.last_seen, body = excluded.body`,
      )
      .run(id, state, kind, source, lastSeen, JSON.stringify(incident))
  }

  /** Writes down who was behind a saved incident. */
  name(id: string, subscriber: Subscriber): void {
    this.#database
      .prepare('UPDATE incidents SET subscriber = ? WHERE id = ?')
      .run(JSON.stringify(subscriber), id)
  }

  /** Who was behind an incident, as it was written down when it happened; null: nobody knew, or it is forgotten. */
  subscriberOf(id: string): Subscriber | null {
    const row = this.#database.prepare('SELECT subscriber FROM incidents WHERE id = ?').get(id)
    const text = row?.['subscriber']
    return typeof text === 'string' ? (JSON.parse(text) as Subscriber) : null
  }

  /** Forgets who was behind incidents that were last seen before the time (milliseconds since the epoch). */
  forgetSubscribers(before: number): void {
    this.#database
      .prepare('UPDATE incidents SET subscriber = NULL WHERE last_seen < ? AND subscriber IS NOT NULL')
      .run(before)
  }

  get(id: string): Incident | null {
    const row = this.#database.prepare('SELECT body FROM incidents WHERE id = ?').get(id)
    return row === undefined ? null : parse(row)
  }

  /** All incidents of a machine, the latest first. */
  idsOf(source: string, limit: number): string[] {
    return this.#database
      .prepare('SELECT id FROM incidents WHERE source = ? ORDER BY last_seen DESC, id DESC LIMIT ?')
      .all(source, limit)
      .map(({ id }) => String(id))
  }

  /** How many incidents a machine, or a user of it, had before this one, that were seen last since then (milliseconds since the epoch). */
  earlier(
    { id, source, user, firstSeen }: Pick<Incident, 'id' | 'source' | 'user' | 'firstSeen'>,
    since: number,
  ): number {
    const row = this.#database
      .prepare(
        `SELECT count(*) AS found FROM incidents
         WHERE source = ? AND json_extract(body, '$.user.uid') IS ? AND id <> ? AND last_seen >= ? AND last_seen <= ?`,
      )
      .get(source, user?.uid ?? null, id, since, firstSeen)
    return Number(row?.['found'])
  }

  /** Forgets resolved incidents that were last seen before the time (milliseconds since the epoch). */
  prune(before: number): number {
    const { changes } = this.#database
      .prepare("DELETE FROM incidents WHERE state = 'resolved' AND last_seen < ?")
      .run(before)
    return Number(changes)
  }

  /** What is open, and what was resolved lately and may be opened again. */
  unfinished(): Incident[] {
    const resolved = this.list({ state: 'resolved', limit: 10_000 })
    return [...resolved.reverse(), ...this.list({ state: 'open', limit: 100_000 })]
  }

  /** The latest first. */
  list({ state, kind, limit, after }: IncidentQuery): Incident[] {
    return this.#database
      .prepare(
        `SELECT body FROM incidents
         WHERE (:state IS NULL OR state = :state) AND (:kind IS NULL OR kind = :kind)
           AND (:time IS NULL OR (last_seen, id) < (:time, :id))
         ORDER BY last_seen DESC, id DESC LIMIT :limit`,
      )
      .all({
        state: state ?? null,
        kind: kind ?? null,
        time: after?.lastSeen ?? null,
        id: after?.id ?? null,
        limit,
      })
      .map(parse)
  }
}

/** What incidents did not have when they were written by an earlier release. */
const BEFORE = {
  user: null,
  process: null,
  lost: 0,
  counter: null,
  evidence: {
    rule: 'fan-out',
    window: 0,
    attempts: 0,
    connections: 0,
    destinations: 0,
    sources: 1,
    limits: {},
    usual: null,
  },
  interfaces: [],
  hardwareAddresses: [],
  reopened: 0,
} satisfies Partial<Incident>

function parse(row: Record<string, unknown>): Incident {
  return { ...BEFORE, ...(JSON.parse(String(row['body'])) as Incident) }
}

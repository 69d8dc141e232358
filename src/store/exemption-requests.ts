/** Requests for exemptions in the database. */
import type { DatabaseSync } from 'node:sqlite'
import { type ExemptionRequest, endOf, requesterOf, type Stage } from '../exemptions/exemption-request.ts'

export interface RequestQuery {
  readonly stages: readonly Stage[] | null
  readonly requester: string | null
  readonly limit: number
  /** The number of the last one of the page before. */
  readonly after: number | null
}

export type StoredRequest = ExemptionRequest & { readonly number: number }

export class ExemptionRequestStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Durable when it returns. */
  save(request: ExemptionRequest): void {
    const { id, stage, exemption, lasts, events } = request
    const changed = Math.max(events.at(-1)?.time ?? 0, stage === 'ended' ? (endOf(request) ?? 0) : 0)
    this.#database
      .prepare(
        `INSERT INTO exemption_requests (id, stage, requester, exemption, changed, body) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, exemption = excluded.exemption,
           changed = excluded.changed, body = excluded.body`,
      )
      .run(
        id,
        stage,
        requesterOf(request),
        exemption.name,
        changed,
        JSON.stringify({ id, stage, exemption, lasts, events }),
      )
  }

  get(id: string): ExemptionRequest | null {
    const row = this.#database.prepare('SELECT number, body FROM exemption_requests WHERE id = ?').get(id)
    return row === undefined ? null : parse(row)
  }

  /** The latest first. */
  list({ stages, requester, limit, after }: RequestQuery): StoredRequest[] {
    return this.#database
      .prepare(
        `SELECT number, body FROM exemption_requests
         WHERE (:stages IS NULL OR stage IN (SELECT value FROM json_each(:stages)))
           AND (:requester IS NULL OR requester = :requester) AND (:after IS NULL OR number < :after)
         ORDER BY number DESC LIMIT :limit`,
      )
      .all({ stages: stages === null ? null : JSON.stringify(stages), requester, after, limit })
      .map(parse)
  }

  /** Forgets what was over before the time (milliseconds since the epoch). */
  prune(before: number): void {
    this.#database
      .prepare(
        "DELETE FROM exemption_requests WHERE stage IN ('refused', 'withdrawn', 'revoked', 'ended') AND changed < ?",
      )
      .run(before)
  }
}

function parse(row: Record<string, unknown>): StoredRequest {
  return { ...(JSON.parse(String(row['body'])) as ExemptionRequest), number: Number(row['number']) }
}

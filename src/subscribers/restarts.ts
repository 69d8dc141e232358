/**
 * Restarts of access servers. Each ends all sessions of its server, which may be a million: walking over them at once would
 * hold up everything else for as long. So a restart is noted, and whoever looks at a session holds it against what is noted;
 * a note may go when all sessions have been looked at since.
 */

/** Notes of one round, by server: seconds since the epoch. */
type Notes = Map<string, number[]>

/** What a session says of itself, in seconds since the epoch. */
interface Session {
  readonly since: number
  readonly until: number
  /** When it was heard of last. */
  readonly told: number
}

export class Restarts {
  /** Since the present round over all sessions began, and the one before it. */
  #notes: Notes = new Map()
  #notesBefore: Notes = new Map()
  #earliest = Number.POSITIVE_INFINITY

  /** What ended by then ended before all that is noted. */
  get earliest(): number {
    return this.#earliest
  }

  note(server: string, at: number): void {
    const known = this.#notes.get(server)
    if (known === undefined) this.#notes.set(server, [at])
    else if (!known.includes(at)) known.push(at)
    this.#earliest = Math.min(this.#earliest, at)
  }

  /** All sessions were looked at since this was called before. */
  endRound(): void {
    this.#notesBefore = this.#notes
    this.#notes = new Map()
    this.#earliest = Math.min(Number.POSITIVE_INFINITY, ...[...this.#notesBefore.values()].map(earliestOf))
  }

  /** When a session of the server was over. Who is heard of after a restart is not ended by it. */
  endOf(server: string, { since, until, told }: Session): number {
    let end = until
    for (const notes of [this.#notesBefore, this.#notes]) {
      for (const at of notes.get(server) ?? []) if (at > since && at >= told && at < end) end = at
    }
    return end
  }
}

function earliestOf(times: readonly number[]): number {
  return times.reduce((earliest, time) => Math.min(earliest, time))
}

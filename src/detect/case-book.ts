/** All incidents that are open, and those that were lately: a machine that comes back soon opens its own again. */
import type { Thresholds } from '../policy/model.ts'
import { Case } from './case.ts'
import type { Incident, IncidentEvent, IncidentKind } from './incident.ts'
import type { Judgement } from './judge.ts'
import { type Local, NOTHING_LOCAL } from './local.ts'
import { machineKey } from './machine-key.ts'
import { Room, type Tally } from './tally.ts'

export interface Opening {
  readonly source: string
  /** Of a local user; null for everybody else. */
  readonly uid?: number | null
  readonly policy: string | null
  readonly verdict: Incident['verdict']
  readonly thresholds: Pick<Thresholds, 'resolveAfter' | 'reopenWithin'>
  readonly judgement: Judgement
  readonly tally: Tally
  /** Attempts known of by number alone. */
  readonly lost?: number
  /** Where the kernel's counter of the subject stands when all that is known of is counted. */
  readonly standing?: () => number | null
  /** It was resolved. */
  readonly onClosed: (by: 'quiet' | 'person') => void
}

interface Entry {
  readonly one: Case
  readonly opening: Opening
}

interface Closed {
  readonly incident: Incident
  readonly until: number
}

/** Resolved incidents that may be opened again; of more, the oldest are forgotten. */
const MOST_CLOSED = 10_000

export class CaseBook {
  readonly #newId: () => string
  readonly #local: Local
  readonly #room = new Room()
  readonly #open = new Map<string, Entry>()
  /** By what identifies the subject, the one that was resolved first in front. */
  readonly #closed = new Map<string, Closed>()
  readonly #grown = new Set<Case>()

  constructor(newId: () => string, local: Local = NOTHING_LOCAL) {
    this.#newId = newId
    this.#local = local
  }

  /** Opens an incident, the one that there was lately when there was one. */
  open(opening: Opening, now: number): { one: Case; event: IncidentEvent } {
    const { source, uid = null, policy, judgement, tally, verdict, thresholds } = opening
    const key = subjectKey(source, uid, judgement.kind)
    const closed = this.#closed.get(key)
    const before = closed !== undefined && now < closed.until ? closed.incident : null
    this.#closed.delete(key)
    const subject = {
      id: before?.id ?? this.#newId(),
      source,
      user: uid === null ? null : (before?.user ?? { uid, name: null }),
      process: before?.process ?? null,
      policy,
      firstSeen: before?.firstSeen ?? tally.firstSeen,
      reopened: before === null ? 0 : before.reopened + 1,
    }
    const one = new Case(subject, tally, judgement, verdict, thresholds, this.#local, before ?? undefined)
    if (opening.lost !== undefined) one.lost = opening.lost
    this.#enter(one, opening)
    return { one, event: { event: 'opened', time: now, incident: one.snapshot() } }
  }

  /** Takes up one that an earlier run left open. */
  resume(incident: Incident, opening: Omit<Opening, 'source' | 'policy' | 'verdict' | 'judgement'>): Case {
    const { kind, confidence, evidence, verdict } = incident
    const judgement = { kind, confidence, evidence }
    const { tally, thresholds } = opening
    const subject = subjectOf(incident)
    const one = new Case(subject, tally, judgement, verdict, thresholds, this.#local, incident)
    one.lastSeen = incident.lastSeen
    one.acknowledged = incident.acknowledged
    this.#enter(one, { ...opening, ...incident, judgement })
    return one
  }

  /** One that was resolved in an earlier run may be opened again until the time. */
  remember(incident: Incident, until: number): void {
    this.#closed.set(subjectKey(incident.source, incident.user?.uid ?? null, incident.kind), {
      incident,
      until,
    })
    if (this.#closed.size > MOST_CLOSED)
      for (const key of this.#closed.keys()) return void this.#closed.delete(key)
  }

  /** To be written when there is time for it. */
  grew(one: Case): void {
    this.#grown.add(one)
  }

  /** So many at most of those that grew since they were last asked for; the others come next time. */
  takeGrown(most: number): Incident[] {
    const taken: Incident[] = []
    for (const one of this.#grown) {
      if (taken.length >= most) break
      this.#grown.delete(one)
      taken.push(one.snapshot())
    }
    return taken
  }

  /** Resolves what has been quiet for long enough. */
  tick(now: number): IncidentEvent[] {
    return [...this.#open.values()]
      .filter(({ one }) => one.isQuiet(now))
      .map((entry) => this.#close(entry, now, 'quiet'))
  }

  resolve(id: string, now: number): IncidentEvent | null {
    const entry = this.#open.get(id)
    return entry === undefined ? null : this.#close(entry, now, 'person')
  }

  find(id: string): Case | null {
    return this.#open.get(id)?.one ?? null
  }

  get size(): number {
    return this.#open.size
  }

  *cases(): Generator<Case> {
    for (const { one } of this.#open.values()) yield one
  }

  #enter(one: Case, opening: Opening): void {
    if (opening.standing !== undefined) one.counter = opening.standing
    opening.tally.widen(this.#room)
    this.#open.set(one.id, { one, opening })
  }

  #close({ one, opening }: Entry, now: number, by: 'quiet' | 'person'): IncidentEvent {
    const incident = one.snapshot('resolved')
    this.#open.delete(one.id)
    this.#grown.delete(one)
    opening.tally.narrow()
    this.remember(incident, now + one.reopenWithin)
    opening.onClosed(by)
    return { event: 'resolved', time: now, incident }
  }
}

/** An exempt host may also be governed, and be known for both. */
function subjectKey(source: string, uid: number | null, kind: IncidentKind): string {
  const key = machineKey(source, uid)
  return kind === 'exempt-host-anomaly' ? `+${key}` : key
}

function subjectOf({ id, source, user, process, policy, firstSeen, reopened }: Incident) {
  return { id, source, user, process, policy, firstSeen, reopened }
}

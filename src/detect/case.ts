/** An incident while it is open: counted on, and made into an `Incident` when somebody asks. */
import type { Thresholds } from '../policy/model.ts'
import type { Evidence, Incident, IncidentKind } from './incident.ts'
import type { Judgement } from './judge.ts'
import type { Local } from './local.ts'
import { summarize } from './summary.ts'
import type { Tally } from './tally.ts'

/** What does not change while it is open. */
export type Subject = Pick<
  Incident,
  'id' | 'source' | 'user' | 'process' | 'policy' | 'firstSeen' | 'reopened'
>

/** What an earlier run, or an earlier time of the same incident, knew of it. */
type Before = Pick<
  Incident,
  'attempts' | 'lost' | 'destinations' | 'topDestinations' | 'interfaces' | 'hardwareAddresses'
>

const NOTHING: Before = {
  attempts: 0,
  lost: 0,
  destinations: 0,
  topDestinations: [],
  interfaces: [],
  hardwareAddresses: [],
}

/** An incident that grew tenfold is news again. */
const NOTICE_FACTOR = 10

/** The later ones explain more. */
const KINDS: readonly IncidentKind[] = [
  'misconfigured-client',
  'exempt-host-anomaly',
  'spam-bot',
  'scanner',
  'flood',
]

export class Case {
  readonly #subject: Subject
  readonly #tally: Tally
  readonly #before: Before
  readonly #local: Local
  #judgement: Judgement
  #nextNotice = 0
  /** When it last went on. */
  lastSeen: number
  /** Since it was opened, or opened again. */
  lost = 0
  verdict: Incident['verdict']
  acknowledged = false
  /** Where the kernel's counter stands by what is counted here; null: nobody knows. */
  counter: () => number | null = () => null
  /** Milliseconds of quiet after which it is over. */
  resolveAfter: number
  readonly reopenWithin: number

  constructor(
    subject: Subject,
    tally: Tally,
    judgement: Judgement,
    verdict: Incident['verdict'],
    { resolveAfter, reopenWithin }: Pick<Thresholds, 'resolveAfter' | 'reopenWithin'>,
    local: Local,
    before: Before = NOTHING,
  ) {
    this.#local = local
    this.#subject = subject
    this.#tally = tally
    this.#judgement = judgement
    this.#before = before
    this.verdict = verdict
    this.lastSeen = tally.lastSeen
    this.resolveAfter = resolveAfter
    this.reopenWithin = reopenWithin
    this.#nextNotice = this.attempts * NOTICE_FACTOR
  }

  get id(): string {
    return this.#subject.id
  }

  get source(): string {
    return this.#subject.source
  }

  /** null: it is no local user's. */
  get uid(): number | null {
    return this.#subject.user?.uid ?? null
  }

  get kind(): IncidentKind {
    return this.#judgement.kind
  }

  get attempts(): number {
    return this.#before.attempts + this.#tally.told + this.lost
  }

  /** Whether it is over. What comes once an hour is not over after an hour. */
  isQuiet(now: number): boolean {
    return this.lastSeen + Math.max(this.resolveAfter, patience(this.#judgement.evidence)) <= now
  }

  /** Whether that is news. A machine never becomes less suspect while its incident lasts. */
  judge(judgement: Judgement | null): boolean {
    const isWorse = judgement !== null && gravity(judgement) > gravity(this.#judgement)
    if (isWorse) this.#judgement = judgement
    else if (judgement !== null && isMoreOfTheSame(judgement, this.#judgement)) {
      this.#judgement = { ...this.#judgement, evidence: judgement.evidence }
    }
    const hasGrown = this.attempts >= this.#nextNotice
    if (isWorse || hasGrown) this.#nextNotice = Math.max(this.#nextNotice, this.attempts * NOTICE_FACTOR)
    return isWorse || hasGrown
  }

  snapshot(state: Incident['state'] = 'open'): Incident {
    const tally = this.#tally
    const before = this.#before
    const current = {
      ...this.#subject,
      ...this.#who(),
      ...this.#judgement,
      state,
      verdict: this.verdict,
      lastSeen: this.lastSeen,
      attempts: this.attempts,
      lost: before.lost + this.lost,
      counter: this.counter(),
      destinations: Math.max(before.destinations, tally.destinations),
      topDestinations: tally.destinations > 0 ? tally.topDestinations : before.topDestinations,
      interfaces: tally.told > 0 ? tally.interfaces : before.interfaces,
      hardwareAddresses: tally.told > 0 ? tally.hardwareAddresses : before.hardwareAddresses,
      acknowledged: this.acknowledged,
    }
    return { ...current, summary: summarize(current) }
  }

  /** Names come late, and may be forgotten by those who knew them. */
  #who(): Pick<Incident, 'user' | 'process'> {
    const { user, process } = this.#subject
    if (user === null) return { user, process }
    const name = this.#local.nameOf(user.uid) ?? user.name
    return { user: { ...user, name }, process: this.#local.processOf(user.uid) ?? process }
  }
}

/** What was found in a long window goes on slowly, and is not over because nothing came for an hour. */
function patience({ rule, window, limits }: Evidence): number {
  const isSlow = rule === 'slow-fan-out' || (rule === 'retries' && limits.connections !== undefined)
  return isSlow ? window / 4 : 0
}

function isMoreOfTheSame({ kind, evidence }: Judgement, known: Judgement): boolean {
  const { rule, attempts, sources } = known.evidence
  const isMore = evidence.attempts > attempts || evidence.sources > sources
  return kind === known.kind && evidence.rule === rule && isMore
}

function gravity({ kind, confidence }: Judgement): number {
  return 2 * KINDS.indexOf(kind) + (confidence === 'definite' ? 1 : 0)
}

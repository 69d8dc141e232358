/** Questions to the memory of attempts. Each reads a bounded number of rows. */
import { type Prefix, parsePrefix } from '../policy/prefix.ts'
import type { Verdict } from '../watch/attempt.ts'
import { addressText, prefixRange } from './attempts-address.ts'
import { type AttemptsDatabase, WEEKS_BY_MACHINE } from './attempts-database.ts'
import { levelOf, type Step, spanStart } from './attempts-levels.ts'

/** Times in milliseconds since the epoch; `until` is not part of the span. */
export interface RecentQuery {
  readonly source?: Prefix
  readonly policy?: string
  readonly verdict?: Verdict
  /** Of a local user. */
  readonly uid?: number
  readonly since?: number
  readonly until?: number
  /** As in the last item of the page before. */
  readonly before?: number
  readonly limit: number
}

/** One attempt as it was told. */
export interface RecentAttempt {
  /** Grows in the order in which they were written. */
  readonly id: number
  readonly time: number
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly interface: string | null
  readonly policy: string | null
  readonly verdict: Verdict
  readonly because: 'relay' | 'exemption' | null
  readonly uid: number | null
  readonly mac: string | null
}

/** The latest first. */
export function recent(database: AttemptsDatabase, query: RecentQuery): RecentAttempt[] {
  const { source, policy, verdict, uid, since, until, before, limit } = query
  const range = source === undefined ? null : prefixRange(source)
  return database
    .prepare(
      `SELECT * FROM detail
       WHERE (:before IS NULL OR id < :before)
         AND (:first IS NULL OR (source BETWEEN :first AND :last AND length(source) = length(:first)))
         AND (:policy IS NULL OR policy = :policy) AND (:verdict IS NULL OR verdict = :verdict)
         AND (:uid IS NULL OR uid = :uid)
         AND (:since IS NULL OR time >= :since) AND (:until IS NULL OR time < :until)
       ORDER BY id DESC LIMIT :limit`,
    )
    .all({
      before: before ?? null,
      first: range?.first ?? null,
      last: range?.last ?? null,
      policy: policy ?? null,
      verdict: verdict ?? null,
      uid: uid ?? null,
      since: since ?? null,
      until: until ?? null,
      limit,
    })
    .map((row) => ({
      id: Number(row['id']),
      time: Number(row['time']),
      source: addressText(row['source'] as Uint8Array),
      sourcePort: Number(row['source_port']),
      destination: addressText(row['destination'] as Uint8Array),
      interface: row['interface'] as string | null,
      policy: row['policy'] as string | null,
      verdict: row['verdict'] as Verdict,
      because: row['because'] as RecentAttempt['because'],
      uid: row['uid'] as number | null,
      mac: row['mac'] as string | null,
    }))
}

/** A span of time in whole steps; milliseconds since the epoch. */
export interface Span {
  readonly step: Step
  readonly from: number
  readonly to: number
}

export interface Point {
  /** The start of its span of time, in milliseconds since the epoch. */
  readonly time: number
  /** Counted, exactly. */
  readonly attempts: number
  /** Known in detail when they happened. */
  readonly told: number
  /** Of relays and exempt hosts, which may. */
  readonly allowed: number
}

/** Of one machine, of what one policy governs, or of all. */
export type SeriesOf = { readonly source: string } | { readonly policy: string } | 'all'

/** The starts of the spans from :first to before :end. A look for each of them finds the rows of one machine. */
const SPANS = `WITH RECURSIVE each (time) AS (
    SELECT :first WHERE :first < :end UNION ALL SELECT time + :seconds FROM each WHERE time + :seconds < :end)
  SELECT time FROM each`

/** A point for each step, also for those in which nothing happened. */
export function series(database: AttemptsDatabase, of: SeriesOf, { step, from, to }: Span): Point[] {
  const level = levelOf(step)
  const first = spanStart(level, from)
  const points: { time: number; attempts: number; told: number; allowed: number }[] = []
  for (let time = first; time * 1000 < to; time += level.seconds) {
    points.push({ time: time * 1000, attempts: 0, told: 0, allowed: 0 })
  }
  const end = first + points.length * level.seconds
  for (const row of rowsOf(database, of, step, first, end, level.seconds)) {
    const point = points[(Number(row['time']) - first) / level.seconds]
    if (point === undefined) continue
    if (row['allowed'] === 1) point.allowed += Number(row['attempts'])
    else {
      point.attempts += Number(row['attempts'])
      point.told += Number(row['told'])
    }
  }
  return points
}

function rowsOf(
  database: AttemptsDatabase,
  of: SeriesOf,
  step: Step,
  first: number,
  end: number,
  seconds: number,
): Record<string, unknown>[] {
  if (of !== 'all' && 'source' in of) {
    return database
      .prepare(
        `SELECT spans.time, allowed, sums.attempts, told FROM machines
           CROSS JOIN (${SPANS}) AS spans CROSS JOIN machine_${step} AS sums ON sums.time = spans.time AND sums.machine = machines.id
         WHERE source = :source`,
      )
      .all({ first, end, seconds, source: of.source })
  }
  return database
    .prepare(
      `SELECT time, verdict = 'allow' AS allowed, sum(attempts) AS attempts, sum(told) AS told
       FROM label_${step} JOIN labels ON labels.id = label
       WHERE time >= :first AND time < :end AND (:policy IS NULL OR policy = :policy) GROUP BY time, allowed`,
    )
    .all({ first, end, policy: of === 'all' ? null : of.policy })
}

export interface TopQuery extends Span {
  /** What is wanted: machines that policies govern, or relays and exempt hosts. */
  readonly allowed: boolean
  readonly policy?: string
  readonly limit: number
  readonly offset: number
}

export interface Machine {
  readonly source: string
  /** That decided last; null for relays and exempt hosts. */
  readonly policy: string | null
  readonly verdict: Verdict | null
  readonly attempts: number
  readonly told: number
  /** The most distinct destinations told of in a minute; from 64 on at least so many. */
  readonly destinations: number
  readonly firstSeen: number
  readonly lastSeen: number
}

const COARSER = { minute: 'hour', hour: 'day', day: 'week' } as const satisfies Partial<Record<Step, Step>>

/**
 * What each machine did in the spans from :first to before :end. Those from :wholeFirst to before :wholeEnd are whole spans
 * of the next level: the sums of all levels agree, and there are far fewer of those.
 */
function sumsOf(step: Step): string {
  // Who forgets nothing reads most weeks anyway, and in this order there is nothing to sort.
  if (step === 'week')
    return `SELECT machine, attempts FROM machine_week INDEXED BY ${WEEKS_BY_MACHINE}
      WHERE time >= :first AND time < :end`
  const from = (level: Step) => `SELECT machine, attempts FROM machine_${level}`
  return `${from(step)} WHERE time >= :first AND time < :wholeFirst
    UNION ALL ${from(COARSER[step])} WHERE time >= :wholeFirst AND time < :wholeEnd
    UNION ALL ${from(step)} WHERE time >= :wholeEnd AND time < :end`
}

function wholeSpans(step: Step, first: number, end: number): { wholeFirst?: number; wholeEnd?: number } {
  if (step === 'week') return {}
  const coarser = levelOf(COARSER[step])
  const wholeFirst = Math.min(end, spanStart(coarser, (first + coarser.seconds - 1) * 1000))
  return { wholeFirst, wholeEnd: Math.max(wholeFirst, spanStart(coarser, end * 1000)) }
}

/** The machines with the most attempts in a span of time. */
export function top(database: AttemptsDatabase, query: TopQuery): Machine[] {
  const { step, from, to, allowed, policy, limit, offset } = query
  const level = levelOf(step)
  const [first, end] = [spanStart(level, from), Math.ceil(to / 1000)]
  // Sums of one number for all machines, and the rest for those that are asked for.
  return database
    .prepare(
      `SELECT source, policy, verdict, ranked.attempts, first_seen, last_seen,
         sum(told) AS told, max(destinations) AS destinations
       FROM (
         SELECT id, sums.attempts FROM (SELECT machine, sum(attempts) AS attempts FROM (${sumsOf(step)}) GROUP BY machine) AS sums
         CROSS JOIN machines ON id = machine
         WHERE allowed = :allowed
           AND (:policy IS NULL OR label IN (SELECT id FROM labels WHERE policy = :policy))
         ORDER BY sums.attempts DESC, id LIMIT :limit OFFSET :offset) AS ranked
       CROSS JOIN (${SPANS}) AS spans
       CROSS JOIN machine_${step} AS sums ON sums.time = spans.time AND sums.machine = ranked.id
       CROSS JOIN machines ON machines.id = ranked.id LEFT JOIN labels ON labels.id = machines.label
       GROUP BY ranked.id ORDER BY ranked.attempts DESC, ranked.id`,
    )
    .all({
      first,
      end,
      ...wholeSpans(step, first, end),
      seconds: level.seconds,
      allowed: allowed ? 1 : 0,
      policy: policy ?? null,
      limit,
      offset,
    })
    .map((row) => ({
      source: String(row['source']),
      policy: (row['policy'] as string | null) || null,
      verdict: row['verdict'] as Verdict | null,
      attempts: Number(row['attempts']),
      told: Number(row['told']),
      destinations: Number(row['destinations']),
      firstSeen: Number(row['first_seen']),
      lastSeen: Number(row['last_seen']),
    }))
}

/** When the machine was seen; null when it is not remembered. */
export function seen(
  database: AttemptsDatabase,
  source: string,
): { readonly firstSeen: number; readonly lastSeen: number } | null {
  const row = database
    .prepare('SELECT min(first_seen) AS first, max(last_seen) AS last FROM machines WHERE source = ?')
    .get(source)
  if (row === undefined || row['first'] === null) return null
  return { firstSeen: Number(row['first']), lastSeen: Number(row['last']) }
}

/** What the machine tried most, by the days of the span: at least so often. */
export function topDestinations(
  database: AttemptsDatabase,
  source: string,
  { from, to }: Pick<Span, 'from' | 'to'>,
  limit: number,
): { readonly destination: string; readonly attempts: number }[] {
  const day = levelOf('day')
  return database
    .prepare(
      `SELECT destination, sum(destinations.attempts) AS attempts FROM machines
         CROSS JOIN (${SPANS}) AS days CROSS JOIN destinations ON destinations.day = days.time AND machine = machines.id
       WHERE source = :source GROUP BY destination ORDER BY 2 DESC, destination LIMIT :limit`,
    )
    .all({ first: spanStart(day, from), end: Math.ceil(to / 1000), seconds: day.seconds, source, limit })
    .map((row) => ({
      destination: addressText(row['destination'] as Uint8Array),
      attempts: Number(row['attempts']),
    }))
}

/** What the run before left: where the kernel's counters stood, and who is credited with more or less than that. */
export interface Saved {
  /** By id; null: nothing was ever written, so nobody knows since when the kernel counts. */
  readonly totals: ReadonlyMap<string, number> | null
  readonly machines: readonly {
    readonly machine: Prefix
    readonly source: string
    readonly allowed: boolean
    readonly kernel: number | null
    readonly balance: number
  }[]
}

export function saved(database: AttemptsDatabase, since: number, limit: number): Saved {
  const totals = database.prepare('SELECT id, packets FROM totals').all()
  const machines = database
    .prepare(
      `SELECT source, allowed, kernel, balance FROM machines
       WHERE last_seen >= ? AND (kernel IS NOT NULL OR balance <> 0) ORDER BY last_seen DESC LIMIT ?`,
    )
    .all(since, limit)
    .flatMap((row) => {
      const source = String(row['source'])
      const machine = parsePrefix(source)
      if (typeof machine === 'string') return []
      const kernel = row['kernel'] as number | null
      return [{ machine, source, allowed: row['allowed'] === 1, kernel, balance: Number(row['balance']) }]
    })
  return {
    totals:
      totals.length === 0 ? null : new Map(totals.map((row) => [String(row['id']), Number(row['packets'])])),
    machines,
  }
}

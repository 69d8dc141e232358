/** Pending attempts to rows. Called within a transaction. */
import { addressBytes } from './attempts-address.ts'
import type { AttemptsDatabase } from './attempts-database.ts'
import { keptFor, LEVELS, spanStart } from './attempts-levels.ts'
import type { Label, Pending, PendingMachine, Sum } from './attempts-pending.ts'

export interface WriteLimits {
  /**
   * Machines written in one transaction, so that it does not hold up everything else; the others wait for the next.
   * Those that find no room cost little, and do not count.
   */
  readonly machinesAtOnce: number
  /** Machines that begin to be remembered in one minute: a flood of spoofed sources shall not be the whole memory. */
  readonly newPerMinute: number
  /** Machines remembered at all. */
  readonly machines: number
}

export const WRITE_LIMITS: WriteLimits = { machinesAtOnce: 2_000, newPerMinute: 4_000, machines: 250_000 }

const UPDATE_MACHINE = `UPDATE machines SET first_seen = min(first_seen, ?), last_seen = max(last_seen, ?),
    label = coalesce(?, label), attempts = attempts + ?, balance = coalesce(?, balance), kernel = coalesce(?, kernel)`
const UPDATE_BY_ID = `${UPDATE_MACHINE} WHERE id = ?`
const UPDATE_BY_NAME = `${UPDATE_MACHINE} WHERE source = ? AND allowed = ? RETURNING id`
const INSERT_MACHINE = `INSERT INTO machines (first_seen, last_seen, label, attempts, balance, kernel, source, allowed)
  VALUES (?, ?, ?, ?, coalesce(?, 0), ?, ?, ?) RETURNING id`
const INSERT_DETAIL = `INSERT INTO detail
  (time, source, source_port, destination, interface, policy, verdict, because, uid, mac)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
const ADD_DESTINATION = `INSERT INTO destinations (day, machine, destination, attempts) VALUES (?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts`

/** Destinations of a machine's day that stay when there are twice as many. */
const DESTINATIONS_A_DAY = 20

/** Level by level, the statement that adds to a span. */
const ADD_TO_MACHINE = LEVELS.map(
  ({ step }) => `INSERT INTO machine_${step} (time, machine, attempts, told, destinations, label)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
      attempts = attempts + excluded.attempts, told = told + excluded.told,
      destinations = max(destinations, excluded.destinations), label = coalesce(excluded.label, label)`,
)
const ADD_TO_LABEL = LEVELS.map(
  ({ step }) => `INSERT INTO label_${step} (time, label, attempts, told) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts, told = told + excluded.told`,
)

export interface Written {
  /** Keys of the machines that need not wait any more. */
  readonly machines: readonly string[]
  /** Attempts of machines that found no room; they are in the sums of their policies all the same. */
  readonly unattributed: number
  readonly newMachines: number
}

/** `mayAdd`: how many machines may begin to be remembered now. */
export function writePending(
  database: AttemptsDatabase,
  pending: Pending,
  mayAdd: number,
  machinesAtOnce: number,
): Written {
  for (const { label, minutes } of pending.labels) {
    const id = labelId(database, label)
    for (const [minute, { attempts, told }] of minutes) {
      for (const [index, level] of LEVELS.entries()) {
        database
          .prepare(ADD_TO_LABEL[index] as string)
          .run(spanStart(level, minute * 1000), id, attempts, told)
      }
    }
  }
  for (const [id, packets] of pending.totals) {
    database.prepare('INSERT OR REPLACE INTO totals (id, packets) VALUES (?, ?)').run(id, packets)
  }
  const insert = database.prepare(INSERT_DETAIL)
  for (const attempt of pending.details) {
    const { time, source, sourcePort, destination, policy, verdict, because, uid, mac } = attempt
    const [from, to] = [addressBytes(source), addressBytes(destination)]
    insert.run(time, from, sourcePort, to, attempt.interface, policy, verdict, because, uid, mac)
  }
  const machines: string[] = []
  let unattributed = 0
  let newMachines = 0
  let written = 0
  for (const [key, machine] of pending.machines) {
    if (written >= machinesAtOnce) break
    machines.push(key)
    const found = writeMachine(database, key, machine, newMachines < mayAdd)
    if (found === 'no-room') unattributed += attemptsOf(machine)
    else written++
    if (found === 'new') newMachines++
  }
  return { machines, unattributed, newMachines }
}

function writeMachine(
  database: AttemptsDatabase,
  key: string,
  machine: PendingMachine,
  mayAdd: boolean,
): 'known' | 'new' | 'no-room' {
  const { source, allowed, firstSeen, lastSeen, balance, kernel, minutes, destinations } = machine
  const label = machine.label === null ? null : labelId(database, machine.label)
  const row = [firstSeen, lastSeen, label, attemptsOf(machine), balance, kernel] as const
  const name = [source, allowed ? 1 : 0] as const
  // By its number it is found in half the time, and it is mostly the same ones that come again.
  let id = database.machines.get(key)
  if (id !== undefined && database.prepare(UPDATE_BY_ID).run(...row, id).changes === 0) id = undefined
  id ??= idOf(database.prepare(UPDATE_BY_NAME).get(...row, ...name))
  const isNew = id === undefined
  if (id === undefined) {
    // Whom the kernel counts is one of a bounded number, and where its counter stands must not be forgotten.
    if (kernel === null && minutes.size === 0) return 'known'
    if (kernel === null && !mayAdd) return 'no-room'
    id = Number(database.prepare(INSERT_MACHINE).get(...row, ...name)?.['id'])
  }
  database.machines.set(key, id)
  for (const [minute, sum] of minutes) addToSpans(database, id, minute, sum, label)
  const add = database.prepare(ADD_DESTINATION)
  for (const { day, destination, attempts } of destinations) {
    add.run(day, id, addressBytes(destination), attempts)
  }
  for (const day of new Set(destinations.map((one) => one.day))) keepTop(database, day, id)
  return isNew ? 'new' : 'known'
}

function idOf(row: Record<string, unknown> | undefined): number | undefined {
  return row === undefined ? undefined : Number(row['id'])
}

function addToSpans(
  database: AttemptsDatabase,
  machine: number,
  minute: number,
  { attempts, told, destinations }: Sum,
  label: number | null,
): void {
  for (const [index, level] of LEVELS.entries()) {
    const time = spanStart(level, minute * 1000)
    database.prepare(ADD_TO_MACHINE[index] as string).run(time, machine, attempts, told, destinations, label)
  }
}

/** A machine that tries thousands of destinations is known by those that it tries most. */
function keepTop(database: AttemptsDatabase, day: number, machine: number): void {
  const where = 'FROM destinations WHERE day = :day AND machine = :machine'
  const count = Number(database.prepare(`SELECT count(*) AS count ${where}`).get({ day, machine })?.['count'])
  if (count <= 2 * DESTINATIONS_A_DAY) return
  database
    .prepare(
      `DELETE ${where} AND destination NOT IN (
         SELECT destination ${where} ORDER BY attempts DESC, destination LIMIT ${DESTINATIONS_A_DAY})`,
    )
    .run({ day, machine })
}

function attemptsOf({ minutes }: PendingMachine): number {
  let attempts = 0
  for (const sum of minutes.values()) attempts += sum.attempts
  return attempts
}

/** Labels are as many as there are policies and verdicts, and stay. */
function labelId(database: AttemptsDatabase, { policy, verdict, because }: Label): number {
  const values = [policy ?? '', verdict, because ?? ''] as const
  const key = values.join(' ')
  const remembered = database.labels.get(key)
  if (remembered !== undefined) return remembered
  const find = database.prepare('SELECT id FROM labels WHERE policy = ? AND verdict = ? AND because = ?')
  const id =
    idOf(find.get(...values)) ??
    Number(
      database.prepare('INSERT INTO labels (policy, verdict, because) VALUES (?, ?, ?)').run(...values)
        .lastInsertRowid,
    )
  database.labels.set(key, id)
  return id
}

export interface Retention {
  /** Milliseconds for which sums are kept, and attempts in detail. */
  readonly retain: number
  readonly retainDetail: number
  /** Attempts in detail. */
  readonly details: number
  /** Bytes of the file; beyond it the oldest of the finest sums go before their time. */
  readonly bytes: number
}

/** Spans that are kept of each level whatever the file's size. */
const LEAST_SPANS = 60

/** Rows that go at once. */
const BATCH = 10_000

/** Forgets some of what is too old, little at a time: what is left is for the next time. */
export function forgetOld(database: AttemptsDatabase, now: number, keep: Retention): void {
  const last = Number(database.prepare('SELECT max(id) AS id FROM detail').get()?.['id'] ?? 0)
  database.prepare('DELETE FROM detail WHERE id <= ?').run(last - keep.details)
  const eldest = database.prepare('SELECT time FROM detail ORDER BY id LIMIT 1').get()?.['time']
  if (typeof eldest === 'number' && eldest < now - keep.retainDetail) {
    database
      .prepare(
        `DELETE FROM detail WHERE id IN (SELECT id FROM detail ORDER BY id LIMIT ${BATCH}) AND time < ?`,
      )
      .run(now - keep.retainDetail)
  }
  let spare = keep.bytes - database.size()
  for (const level of LEVELS) {
    const { step, seconds } = level
    const limit = Math.floor((now - keptFor(level, keep.retain)) / 1000) - seconds
    for (const whose of ['machine', 'label'] as const) {
      const table = `${whose}_${step}`
      const oldest = database.prepare(`SELECT min(time) AS time FROM ${table}`).get()?.['time']
      if (typeof oldest !== 'number') continue
      const age = (spanStart(level, now) - oldest) / seconds
      const tooMuch = spare < 0 && whose === 'machine' && age >= LEAST_SPANS
      if (oldest > limit && !tooMuch) continue
      const some = `SELECT ${whose} FROM ${table} WHERE time = :oldest LIMIT ${BATCH}`
      database.prepare(`DELETE FROM ${table} WHERE time = :oldest AND ${whose} IN (${some})`).run({ oldest })
      // One level at a time makes room.
      if (tooMuch) spare = 0
    }
  }
  forgetDestinations(database, now, keep.retain)
}

/** Destinations of the oldest day that is too old. */
function forgetDestinations(database: AttemptsDatabase, now: number, retain: number): void {
  const oldest = database.prepare('SELECT min(day) AS day FROM destinations').get()?.['day']
  if (typeof oldest === 'number' && oldest * 1000 < now - retain - 86_400_000) {
    database.prepare('DELETE FROM destinations WHERE day = ?').run(oldest)
  }
}

/** Once an hour: machines that are not heard of any more go, and when there are too many, those that did the least. */
export function forgetMachines(database: AttemptsDatabase, now: number, retain: number, most: number): void {
  database.prepare('DELETE FROM machines WHERE last_seen < ?').run(now - retain)
  const count = Number(database.prepare('SELECT count(*) AS count FROM machines').get()?.['count'])
  if (count <= most * 0.8) return
  // Quiet for an hour, too: sources of a flood rather than offenders.
  database
    .prepare(
      `DELETE FROM machines WHERE id IN (
         SELECT id FROM machines WHERE last_seen < ? ORDER BY attempts, last_seen LIMIT ?)`,
    )
    .run(now - 3_600_000, Math.ceil(count - most * 0.5))
}

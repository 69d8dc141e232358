// What the memory of attempts costs to write, and how fast it answers when it is full.
import { join } from 'node:path'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import { AttemptLog } from '../../src/store/attempts.ts'
import { AttemptsDatabase } from '../../src/store/attempts-database.ts'
import { keptFor, LEVELS, spanStart } from '../../src/store/attempts-levels.ts'
import type { Span } from '../../src/store/attempts-query.ts'
import type { Attempt } from '../../src/watch/attempt.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { quantile } from './rounds.ts'

const SOURCES = 10_000
const DAYS = 90
const DAY = 86_400_000
const ROUNDS = 200
const SECONDS = 60

/** How many of the machines do something in a span: few in a minute, all of them each day and week. */
const ACTIVE = { minute: 0.1, hour: 0.3, day: 1, week: 1 } as const

export const history: Measurement = {
  name: 'history',
  title: 'The memory of attempts',
  about:
    `A history of ${DAYS} days in which each of 10,000 machines does something every day, 3,000 of them in each of the ` +
    'last 336 hours and 1,000 in each of the last 2,880 minutes, with 100,000 attempts in detail, on a disk. Answers ' +
    'are the 95th percentile over different machines and times. Writing is the processor time of buffering and of a ' +
    'transaction each second, as a share of one core, with that history in the file.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const path = join(folder, 'attempts.db')
  const now = Math.floor(Date.now() / DAY) * DAY + DAY / 2
  progress('writing the history')
  generate(path, now)
  const log = new AttemptLog({
    path,
    retain: DAYS * DAY,
    retainDetail: DAY,
    onFailed: fail,
    onRecovered: () => {},
    onSetAside: fail,
  })
  try {
    progress('asking')
    return [
      ...answers(log, now),
      writing(log, 1_000, now, progress),
      writing(log, 10_000, now + DAY, progress),
    ]
  } finally {
    log.close()
  }
}

function fail(error: Error): never {
  throw error
}

function generate(path: string, now: number): void {
  const database = new AttemptsDatabase(path)
  database.inTransaction(() => {
    database
      .prepare("INSERT INTO labels (id, policy, verdict, because) VALUES (1, 'residential', 'block', '')")
      .run()
    const machine = database.prepare(
      'INSERT INTO machines (id, source, allowed, first_seen, last_seen, label) VALUES (?, ?, 0, ?, ?, 1)',
    )
    for (let id = 1; id <= SOURCES; id++) machine.run(id, sourceOf(id), now - DAYS * DAY, now)
    for (const level of LEVELS) {
      const ofMachine = database.prepare(`INSERT INTO machine_${level.step} VALUES (?, ?, ?, ?, ?, 1)`)
      const ofLabel = database.prepare(`INSERT INTO label_${level.step} VALUES (?, 1, ?, ?)`)
      const first = spanStart(level, now - keptFor(level, DAYS * DAY))
      const every = Math.round(1 / ACTIVE[level.step])
      for (let time = first, span = 0; time * 1000 <= now; time += level.seconds, span++) {
        for (let id = 1 + (span % every); id <= SOURCES; id += every) {
          ofMachine.run(time, id, 1 + ((id * 7_919) % 997), 1 + (id % 50), id % 64)
        }
        ofLabel.run(time, 1_000_000, 50_000)
      }
    }
    const destination = database.prepare('INSERT INTO destinations VALUES (?, ?, ?, ?)')
    for (let day = 0; day < DAYS; day++) {
      const time = spanStart({ seconds: 86_400, offset: 0 }, now - day * DAY)
      for (let id = 1; id <= SOURCES; id++) destination.run(time, id, Uint8Array.of(203, 0, 113, id & 255), 5)
    }
    const detail = database.prepare(
      `INSERT INTO detail (time, source, source_port, destination, policy, verdict)
       VALUES (?, ?, 40000, ?, 'residential', 'block')`,
    )
    for (let i = 0; i < 100_000; i++) {
      const id = 1 + (i % SOURCES)
      detail.run(
        now - 100_000 + i,
        Uint8Array.of(100, 64, id >> 8, id & 255),
        Uint8Array.of(203, 0, 113, i & 255),
      )
    }
  })
  database.close()
}

function sourceOf(id: number): string {
  return `100.64.${id >> 8}.${id & 255}`
}

function answers(log: AttemptLog, now: number): Figure[] {
  const span = (step: Span['step'], days: number): Span => ({ step, from: now - days * DAY, to: now })
  const source = (round: number) => sourceOf(1 + ((round * 7_907) % SOURCES))
  const top = (step: Span['step'], days: number) => () =>
    log.top({ ...span(step, days), allowed: false, limit: 100, offset: 0 })
  const questions: [string, number, (round: number) => unknown][] = [
    ['one machine, a day in minutes', ROUNDS, (i) => log.series({ source: source(i) }, span('minute', 1))],
    ['one machine, 14 days in hours', ROUNDS, (i) => log.series({ source: source(i) }, span('hour', 14))],
    ['one machine, 90 days in days', ROUNDS, (i) => log.series({ source: source(i) }, span('day', 90))],
    ['all machines, a day in minutes', ROUNDS, () => log.series('all', span('minute', 1))],
    ['all machines, 90 days in days', ROUNDS, () => log.series('all', span('day', 90))],
    [
      'what one machine tried most, 90 days',
      ROUNDS,
      (i) => log.topDestinations(source(i), span('day', 90), 20),
    ],
    [
      'the last 20 attempts of one machine',
      ROUNDS,
      (i) => log.recent({ source: parseAddress(source(i)) as Prefix, limit: 20 }),
    ],
    [
      'the last 100 attempts of a machine that made none',
      40,
      () => log.recent({ source: NOBODY, limit: 100 }),
    ],
    ['the 100 worst machines of 24 hours', 20, top('hour', 1)],
    ['the 100 worst machines of 14 days', 20, top('day', 14)],
    ['the 100 worst machines of 90 days', 20, top('week', 90)],
  ]
  return questions.map(([what, rounds, ask]) => {
    const times = Array.from({ length: rounds }, (_, round) => {
      const started = performance.now()
      ask(round)
      return performance.now() - started
    })
    return {
      what,
      command: 'GET /v1/attempts, /v1/sources',
      reference: null,
      result: quantile(times, 0.95),
      spread: null,
      unit: 'ms',
      detail: `median ${quantile(times, 0.5).toFixed(1)} ms`,
      rounds,
      goal: 50,
    }
  })
}

const NOBODY = parseAddress('198.51.100.1') as Prefix

/** So many attempts a second of machines and destinations at random, for a minute of time that is not waited for. */
function writing(log: AttemptLog, perSecond: number, now: number, progress: Bench['progress']): Figure {
  progress(`writing ${perSecond} attempts a second`)
  const lost = log.lost.details
  let longest = 0
  const before = process.cpuUsage()
  for (let second = 0; second < SECONDS; second++) {
    for (let i = 0; i < perSecond; i++) {
      const id = 1 + Math.floor(Math.random() * SOURCES)
      log.add(attemptOf(now + second * 1_000, id), { source: sourceOf(id), allowed: false })
    }
    const started = performance.now()
    log.flush(now + second * 1_000 + 999)
    longest = Math.max(longest, performance.now() - started)
  }
  const { user, system } = process.cpuUsage(before)
  const left = (log.lost.details - lost) / SECONDS
  return {
    what: `remembering ${perSecond.toLocaleString('en')} attempts a second`,
    command: 'egress25 serve',
    reference: 'one core',
    result: ((user + system) / 1e6 / SECONDS) * 100,
    spread: null,
    unit: '%',
    detail: `the longest transaction took ${longest.toFixed(0)} ms; detail of ${left.toFixed(0)} a second was not kept`,
    rounds: 1,
    goal: perSecond === 1_000 ? 5 : null,
  }
}

function attemptOf(time: number, id: number): Attempt {
  return {
    time,
    source: parseAddress(sourceOf(id)) as Prefix,
    sourcePort: 1_024 + (id % 60_000),
    destination: { family: 4, address: 0xcb007100 + Math.floor(Math.random() * 256), length: 32 },
    policy: 'residential',
    verdict: 'block',
    because: null,
    interface: 'inside0',
    uid: null,
    mac: '02:00:00:00:00:01',
  }
}

/** The memory of attempts: sums that agree, in bounded memory and files, whatever happens to process and disk. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { rankingSpan, readSpan, readTime, seriesSpan } from '../../src/api/routes/history-query.ts'
import type { Total } from '../../src/compile/ruleset.ts'
import {
  AttemptHistory,
  type AttemptHistoryOptions,
  type Tally,
} from '../../src/control/watching/attempt-history.ts'
import { formatPrefix, type Prefix, parseAddress, parsePrefix } from '../../src/policy/prefix.ts'
import { startUpkeep } from '../../src/service/upkeep.ts'
import {
  AttemptLog,
  type AttemptLogOptions,
  HistoryUnavailableError,
  type Lost,
} from '../../src/store/attempts.ts'
import { addressBytes, addressText, prefixRange } from '../../src/store/attempts-address.ts'
import { Ledger } from '../../src/store/attempts-ledger.ts'
import { LEVELS, levelOf, type Step, spanStart } from '../../src/store/attempts-levels.ts'
import { BaselineStore } from '../../src/store/baselines.ts'
import { openDatabase } from '../../src/store/database.ts'
import { WaitingWrites } from '../../src/store/waiting-writes.ts'
import type { Attempt } from '../../src/watch/attempt.ts'
import { learnedSet, learnedSetOf, SourceCounters } from '../../src/watch/source-counters.ts'
import './seed.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
/** A Monday. */
const START = Date.parse('2026-06-01T00:00:00Z')

const address = (text: string) => parseAddress(text) as Prefix

function attempt(time: number, source: string, more: Partial<Attempt> = {}): Attempt {
  return {
    time,
    source: address(source),
    sourcePort: 40_000,
    destination: address('203.0.113.9'),
    policy: 'residential',
    verdict: 'block',
    because: null,
    interface: 'inside0',
    uid: null,
    mac: '02:00:00:00:00:01',
    ...more,
  }
}

async function folder(test: Test): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'egress25-store-'))
  test.teardown(() => rm(root, { recursive: true, force: true, maxRetries: 9 }))
  return root
}

interface Told {
  readonly failed: string[]
  readonly recovered: Lost[]
  readonly setAside: string[]
}

function open(path: string, more: Partial<AttemptLogOptions> = {}): { log: AttemptLog; told: Told } {
  const told: Told = { failed: [], recovered: [], setAside: [] }
  const log = new AttemptLog({
    path,
    retain: 90 * DAY,
    retainDetail: DAY,
    random: () => 0.5,
    onFailed: ({ message }) => told.failed.push(message),
    onRecovered: (lost) => told.recovered.push(lost),
    onSetAside: (_, where) => told.setAside.push(where),
    ...more,
  })
  return { log, told }
}

const tell = (log: AttemptLog, one: Attempt) =>
  log.add(one, { source: formatPrefix(one.source), allowed: one.verdict === 'allow' })
const sumOf = (
  log: AttemptLog,
  of: Parameters<AttemptLog['series']>[0],
  step: Step,
  from: number,
  to: number,
) =>
  log.series(of, { step, from, to }).reduce(
    (sum, point) => ({
      attempts: sum.attempts + point.attempts,
      told: sum.told + point.told,
      allowed: sum.allowed + point.allowed,
    }),
    { attempts: 0, told: 0, allowed: 0 },
  )

t.test('spans of time', async (t) => {
  const text = (step: Step, time: string) =>
    new Date(spanStart(levelOf(step), Date.parse(time)) * 1000).toISOString()
  t.equal(text('minute', '2026-06-03T12:34:59.999Z'), '2026-06-03T12:34:00.000Z')
  t.equal(text('hour', '2026-06-03T12:34:59.999Z'), '2026-06-03T12:00:00.000Z')
  t.equal(text('day', '2026-06-03T23:59:59.999Z'), '2026-06-03T00:00:00.000Z')
  t.equal(text('week', '2026-06-07T23:59:59.999Z'), '2026-06-01T00:00:00.000Z', 'until Sunday')
  t.equal(text('week', '2026-06-08T00:00:00.000Z'), '2026-06-08T00:00:00.000Z', 'from Monday')
})

t.test('addresses as bytes', async (t) => {
  for (const text of ['0.0.0.0', '255.255.255.255', '100.64.1.2', '::', '2001:db8::1', 'ffff::ffff']) {
    t.equal(addressText(addressBytes(address(text))), text)
  }
  const ends = (text: string) => {
    const { first, last } = prefixRange(parsePrefix(text) as Prefix)
    return [addressText(first), addressText(last)]
  }
  t.same(ends('0.0.0.0/0'), ['0.0.0.0', '255.255.255.255'])
  t.same(ends('100.64.0.0/10'), ['100.64.0.0', '100.127.255.255'])
  t.same(ends('192.0.2.1/32'), ['192.0.2.1', '192.0.2.1'])
  t.same(ends('2001:db8::/32'), ['2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff'])
})

t.test('the ledger: no attempt is credited twice, and at rest all that was counted is', async () => {
  // Each attempt is counted at once, and told a little later or never. Readings come in between.
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('attempt' as const), isTold: fc.boolean() }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('tell' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('read' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('look' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      let ledger = new Ledger()
      const ever = { counted: 0, credited: 0 }
      let seen = 0
      let flying = 0
      const look = () => {
        ever.credited += ledger.counted('m', ever.counted - seen)
        seen = ever.counted
      }
      const read = () => {
        // What flies for longer than from one reading to the next is not of this world.
        while (flying > 0) tellOne()
        ledger.begin()
        look()
        ledger.settle()
      }
      const tellOne = () => {
        if (flying === 0) return
        flying--
        ever.credited += ledger.told('m')
      }
      for (const one of steps) {
        if (one.do === 'attempt') {
          ever.counted++
          if (one.isTold) flying++
        } else if (one.do === 'tell') tellOne()
        else if (one.do === 'read') read()
        else if (one.do === 'look') look()
        else ledger = new Ledger([['m', ledger.balance('m')]])
        if (ever.credited > ever.counted) return false
      }
      read()
      return ever.credited === ever.counted
    }),
    { numRuns: 1_000 },
  )
})

t.test('the ledger: what the kernel has no counter for is credited when it is told', async (t) => {
  const ledger = new Ledger()
  let credit = 0
  const tellTwice = () => {
    credit += ledger.told('m') + ledger.told('m')
  }
  const read = (counted: number) => {
    ledger.begin()
    if (counted > 0) credit += ledger.counted('m', counted)
    ledger.settle()
  }
  tellTwice()
  read(0)
  tellTwice()
  read(0)
  t.equal(credit, 4)
  credit += ledger.counted('m', 3)
  t.equal(credit, 7, 'now it has one, which counts others than those')
  read(0)
  read(0)
  t.equal(ledger.counted('m', 5), 5)
  read(0)
  t.equal(ledger.told('m'), 0, 'may be one of the five')
  read(0)
  t.equal(ledger.told('m'), 1, 'can be none of them any more')
  const small = new Ledger([], 1)
  t.same([small.told('a'), small.told('b'), small.told('a'), small.counted('b', 2)], [1, 0, 1, 2], 'bounded')
})

t.test('readings of learned sets', async (t) => {
  t.same(learnedSet('sources4'), { allowed: false, length: 32 })
  t.same(learnedSet('senders6-64'), { allowed: true, length: 64 })
  t.same([learnedSet('muted4'), learnedSet('rate-x')], [null, null])
  t.equal(learnedSetOf(parsePrefix('2001:db8::/56') as Prefix, false), 'sources6-56')

  t.test('growth since the reading before, like a naive model of it', async () => {
    const reading = fc.dictionary(
      fc.constantFrom('100.64.0.1', '100.64.0.2', '100.64.0.3'),
      fc.integer({ min: 1, max: 5 }),
    )
    fc.assert(
      fc.property(fc.array(reading, { maxLength: 20 }), (readings) => {
        const counters = new SourceCounters(10)
        let before: Record<string, number> = {}
        return readings.every((now) => {
          const elements = Object.entries(now).map(([address, packets]) => ({ address, packets }))
          const found = [...counters.read('sources4', elements)].map(({ source, attempts }) => [
            source,
            attempts,
          ])
          const expected = elements.flatMap(({ address, packets }) => {
            const old = before[address] ?? 0
            const grown = packets < old ? packets : packets - old
            return grown === 0 ? [] : [[address, grown]]
          })
          before = now
          return JSON.stringify(found) === JSON.stringify(expected)
        })
      }),
    )
  })

  t.test('bounded, and over all sets', async (t) => {
    const counters = new SourceCounters(2)
    const of = (...addresses: string[]) => addresses.map((address) => ({ address, packets: 1 }))
    t.equal([...counters.read('sources4', of('1.1.1.1', '1.1.1.2', '1.1.1.3'))].length, 2)
    t.equal(counters.untracked, 1)
    t.equal([...counters.read('senders4', of('1.1.1.1'))].length, 0)
    t.equal([...counters.read('sources4', of('1.1.1.1'))].length, 0)
    t.equal([...counters.read('senders4', of('1.1.1.1'))].length, 1, 'what left made room')
    const [v6] = [...new SourceCounters(1).read('sources6-56', of('2001:db8:0:100::'))]
    t.equal(v6?.source, '2001:db8:0:100::/56')
  })
})

t.test('sums agree with a naive model at every level, for each machine, policy and all', async (t) => {
  const root = await folder(t)
  const sources = ['100.64.0.1', '100.64.0.2', '2001:db8:100::1']
  const policies = ['a', 'b']
  const event = fc.record({
    after: fc.integer({ min: 0, max: 40 * MINUTE }),
    source: fc.constantFrom(...sources),
    policy: fc.constantFrom(...policies),
    allowed: fc.boolean(),
    flush: fc.boolean(),
    withheld: fc.integer({ min: 0, max: 3 }),
  })
  let runs = 0
  fc.assert(
    fc.property(fc.array(event, { minLength: 1, maxLength: 60 }), (events) => {
      const { log } = open(join(root, `${runs++}.db`))
      const model: { time: number; source: string; policy: string; allowed: boolean; attempts: number }[] = []
      let now = START
      const kernel = new Map<string, number>()
      for (const { after, source, policy, allowed, flush, withheld } of events) {
        now += after
        const verdict = allowed ? 'allow' : 'block'
        tell(log, attempt(now, source, { policy: allowed ? null : policy, verdict }))
        const attempts = 1 + withheld
        const packets = (kernel.get(`${source} ${allowed}`) ?? 0) + attempts
        kernel.set(`${source} ${allowed}`, packets)
        log.count({ machine: address(source), source, allowed, attempts, packets }, now, null)
        const label = { policy: allowed ? null : policy, verdict, because: null } as const
        log.countTotal(`${policy} ${allowed}`, label, now, attempts, packets)
        model.push({ time: now, source, policy, allowed, attempts })
        if (flush) log.flush(now)
      }
      log.flush(now)
      const to = now + 1
      const expected = (which: (one: (typeof model)[number]) => boolean) =>
        model.filter(which).reduce((sum, { attempts }) => sum + attempts, 0)
      const right = LEVELS.every(({ step }) => {
        const machines = sources.every((source) => {
          const found = sumOf(log, { source }, step, START, to)
          return (
            found.attempts === expected((one) => one.source === source && !one.allowed) &&
            found.allowed === expected((one) => one.source === source && one.allowed)
          )
        })
        const all = sumOf(log, 'all', step, START, to)
        const ofPolicy = policies.every(
          (policy) =>
            sumOf(log, { policy }, step, START, to).attempts ===
            expected((one) => one.policy === policy && !one.allowed),
        )
        const ranked = log.top({ step, from: START, to, allowed: false, limit: 10, offset: 0 })
        return (
          machines &&
          ofPolicy &&
          all.attempts === expected(({ allowed }) => !allowed) &&
          all.allowed === expected(({ allowed }) => allowed) &&
          all.told === model.filter(({ allowed }) => !allowed).length &&
          ranked.every(
            ({ source, attempts }, place) =>
              attempts === expected((one) => one.source === source && !one.allowed) &&
              attempts >= (ranked[place + 1]?.attempts ?? 0),
          ) &&
          ranked.reduce((sum, { attempts }) => sum + attempts, 0) === expected(({ allowed }) => !allowed)
        )
      })
      log.close()
      return right
    }),
    { numRuns: 40 },
  )
})

t.test('a ranking of any span is that of a naive model', async (t) => {
  const root = await folder(t)
  const sources = ['100.64.0.1', '100.64.0.2', '100.64.0.3']
  const longest: readonly (readonly [Step, number])[] = [
    ['minute', 3 * 60 * MINUTE],
    ['hour', 3 * DAY],
    ['day', 30 * DAY],
    ['week', 90 * DAY],
  ]
  let runs = 0
  fc.assert(
    fc.property(
      fc.constantFrom(...longest).chain(([step, most]) => {
        const time = fc.integer({ min: 0, max: most })
        const told = fc.record({ time, source: fc.constantFrom(...sources) })
        return fc.record({
          step: fc.constant(step),
          from: time,
          to: time,
          told: fc.array(told, { maxLength: 200 }),
        })
      }),
      ({ step, from, to, told }) => {
        const { log } = open(join(root, `${runs++}.db`))
        for (const { time, source } of told) tell(log, attempt(START + time, source))
        log.flush(START + Math.max(0, ...told.map(({ time }) => time)))
        const level = levelOf(step)
        const first = spanStart(level, START + Math.min(from, to))
        const end = spanStart(level, START + Math.max(from, to)) + level.seconds
        const ranked = log.top({
          step,
          from: first * 1000,
          to: end * 1000,
          allowed: false,
          limit: 10,
          offset: 0,
        })
        log.close()
        const expected = sources.map((source) => ({
          source,
          attempts: told.filter(
            (one) =>
              one.source === source && START + one.time >= first * 1000 && START + one.time < end * 1000,
          ).length,
        }))
        const found = (source: string) => ranked.find((one) => one.source === source)?.attempts ?? 0
        return expected.every(({ source, attempts }) => found(source) === attempts)
      },
    ),
    { numRuns: 60 },
  )
})

t.test('attempts in detail', async (t) => {
  const { log } = open(join(await folder(t), 'attempts.db'), { details: 30, limits: { details: 20 } })
  const one = attempt(START, '100.64.0.1', { uid: 1000, interface: null })
  const six = attempt(START + 1, '6440::1', { verdict: 'allow', because: 'relay', policy: null, mac: null })
  tell(log, one)
  tell(log, six)
  log.flush(START + 2)
  t.match(log.recent({ limit: 10 }), [
    { source: '6440::1', policy: null, because: 'relay', mac: null, verdict: 'allow' },
    { source: '100.64.0.1', sourcePort: 40_000, destination: '203.0.113.9', uid: 1000, interface: null },
  ])
  const found = (query: Omit<Parameters<AttemptLog['recent']>[0], 'limit'>) =>
    log.recent({ ...query, limit: 10 }).map(({ source }) => source)
  t.same(found({ source: parsePrefix('100.64.0.0/10') as Prefix }), ['100.64.0.1'], 'and not 6440::')
  t.same(found({ source: parsePrefix('6440::/16') as Prefix }), ['6440::1'])
  t.same(found({ policy: 'residential' }), ['100.64.0.1'])
  t.same(found({ policy: 'other' }), [])
  t.same(found({ verdict: 'allow' }), ['6440::1'])
  t.same(found({ since: START + 1 }), ['6440::1'])
  t.same(found({ until: START + 1 }), ['100.64.0.1'])

  t.test('of too many a fair sample, and the rest is counted', async (t) => {
    for (let i = 0; i < 50; i++) tell(log, attempt(START + 10 + i, '100.64.0.2'))
    log.flush(START + 100)
    t.equal(log.recent({ source: address('100.64.0.2'), limit: 100 }).length, 20)
    t.equal(log.lost.details, 30)
    t.equal(sumOf(log, 'all', 'minute', START, START + MINUTE).told, 51, 'all are in the sums')
  })

  t.test('the oldest make room, page by page', async (t) => {
    for (let i = 0; i < 15; i++) tell(log, attempt(START + 200 + i, '100.64.0.3'))
    log.flush(START + 300)
    const all = log.recent({ limit: 100 })
    t.equal(all.length, 30)
    const first = log.recent({ limit: 10 })
    const second = log.recent({ limit: 100, before: first.at(-1)?.id ?? 0 })
    t.same([...first, ...second], all)
    log.flush(START + 200 + DAY + 7)
    t.equal(log.recent({ limit: 100 }).length, 8, 'and go after a day')
  })
})

t.test('destinations: how many at once, and which the most', async (t) => {
  const { log } = open(join(await folder(t), 'attempts.db'))
  const to = (last: number) => address(`203.0.113.${last}`)
  for (let i = 0; i < 70; i++) tell(log, attempt(START + i, '100.64.0.1', { destination: to(i) }))
  for (let i = 0; i < 3; i++) tell(log, attempt(START + i, '100.64.0.1', { destination: to(7) }))
  tell(log, attempt(START + MINUTE, '100.64.0.1', { destination: to(8) }))
  log.flush(START + MINUTE)
  log.finish(START + MINUTE)
  const [machine] = log.top({
    step: 'day',
    from: START,
    to: START + DAY,
    allowed: false,
    limit: 1,
    offset: 0,
  })
  t.equal(machine?.destinations, 64, 'at least so many')
  const span = { from: START, to: START + DAY }
  const [best, ...more] = log.topDestinations('100.64.0.1', span, 10)
  t.same(best, { destination: '203.0.113.7', attempts: 4 })
  t.same(more.find(({ destination }) => destination === '203.0.113.8')?.attempts, 1)
  t.ok(more.length <= 5)

  for (let minute = 0; minute < 30; minute++) {
    for (let i = 0; i < 5; i++) {
      const destination = to((minute * 5 + i) % 250)
      tell(log, attempt(START + HOUR + minute * MINUTE, '100.64.0.1', { destination }))
    }
    log.flush(START + HOUR + minute * MINUTE)
  }
  t.ok(log.topDestinations('100.64.0.1', span, 1_000).length <= 40, 'bounded')
  log.close()
})

t.test('what is old goes, the finest first', async (t) => {
  const path = join(await folder(t), 'attempts.db')
  const { log } = open(path, { retain: 30 * DAY })
  tell(log, attempt(START, '100.64.0.1'))
  log.flush(START)
  tell(log, attempt(START + DAY, '100.64.0.1'))
  const rows = (time: number) => {
    for (let i = 0; i < 3; i++) log.flush(time)
    log.close()
    const database = new DatabaseSync(path)
    const count = (table: string) =>
      Number(database.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n'])
    const found = LEVELS.map(({ step }) => [count(`machine_${step}`), count(`label_${step}`)])
    const rest = [count('machines'), count('detail')]
    database.close()
    return [...found, rest]
  }
  t.same(rows(START + DAY), [
    [2, 2],
    [2, 2],
    [2, 2],
    [1, 1],
    [1, 2],
  ])
  t.same(rows(START + 2 * DAY + 2 * MINUTE), [
    [1, 1],
    [2, 2],
    [2, 2],
    [1, 1],
    [1, 0],
  ])
  t.same(rows(START + 14 * DAY + 2 * HOUR), [
    [0, 0],
    [1, 1],
    [2, 2],
    [1, 1],
    [1, 0],
  ])
  t.same(rows(START + 31 * DAY + HOUR), [
    [0, 0],
    [0, 0],
    [1, 1],
    [1, 1],
    [0, 0],
  ])
  t.same(rows(START + 40 * DAY), [
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 0],
  ])

  t.test('or before its time, when the file grows too large', async (t) => {
    const small = open(join(await folder(t), 'attempts.db'), { bytes: 1 })
    const time = START + 100 * DAY
    for (let minute = 0; minute < 65; minute++) {
      tell(small.log, attempt(time + minute * MINUTE, '100.64.0.1'))
      small.log.flush(time + minute * MINUTE)
    }
    const end = time + 65 * MINUTE
    t.ok(sumOf(small.log, { source: '100.64.0.1' }, 'minute', time, end).attempts <= 61)
    t.equal(sumOf(small.log, { source: '100.64.0.1' }, 'hour', time, end).attempts, 65)
    small.log.close()
  })
})

t.test('of many machines some wait for the next time, and the last for the end', async (t) => {
  const path = join(await folder(t), 'attempts.db')
  const { log } = open(path, { limits: { machinesAtOnce: 2 } })
  for (let i = 0; i < 9; i++) tell(log, attempt(START, `100.64.0.${i}`))
  const written = () =>
    log.top({ step: 'day', from: START, to: START + DAY, allowed: false, limit: 20, offset: 0 }).length
  for (const expected of [2, 4]) {
    log.flush(START)
    t.equal(written(), expected)
  }
  log.finish(START)
  t.equal(written(), 9)
  log.close()
})

t.test('a flood of spoofed sources costs bounded memory, and hides nobody who goes on', async (t) => {
  const path = join(await folder(t), 'attempts.db')
  const limits = { toldMachines: 200, machinesAtOnce: 100, newPerMinute: 150, machines: 400 }
  const { log } = open(path, { limits })
  let told = 0
  for (let second = 0; second < 180; second++) {
    const now = START + second * 1_000
    for (let i = 0; i < 50; i++) {
      const spoofed = `10.${second & 255}.${i}.1`
      tell(log, attempt(now, spoofed))
      told++
    }
    for (let i = 0; i < 20; i++) tell(log, attempt(now, '100.64.0.1'))
    told += 20
    log.flush(now)
  }
  const end = START + 180_000
  t.equal(sumOf(log, 'all', 'minute', START, end).told, told)
  const [worst] = log.top({ step: 'minute', from: START, to: end, allowed: false, limit: 1, offset: 0 })
  t.equal(worst?.source, '100.64.0.1')
  t.ok(Number(worst?.attempts) > 180 * 20 * 0.9)
  const remembered = () =>
    log.top({ step: 'day', from: START, to: START + DAY, allowed: false, limit: 1_000, offset: 0 }).length
  t.ok(remembered() <= 3 * 150)
  t.ok(log.lost.unattributed > 0, 'and says that there were more')
  log.flush(START + 2 * HOUR)
  t.ok(remembered() <= 400 * 0.5 + 1)
  t.ok(
    log.top({ step: 'day', from: START, to: START + DAY, allowed: false, limit: 1, offset: 0 }).length === 1,
  )
  log.close()
})

t.test('disks and files that fail', async (t) => {
  t.test('what cannot be written waits; told once, and once when it is over', async (t) => {
    const root = await folder(t)
    const { log, told } = open(join(root, 'state', 'attempts.db'))
    for (let second = 0; second < 5; second++) {
      tell(log, attempt(START + second * 1_000, '100.64.0.1'))
      log.flush(START + second * 1_000)
    }
    t.equal(told.failed.length, 1)
    t.not(log.failure, null)
    t.throws(
      () => log.recent({ limit: 1 }),
      new HistoryUnavailableError('the history of attempts cannot be read: unable to open database file'),
    )
    await mkdir(join(root, 'state'))
    log.flush(START + 6_000)
    t.equal(log.failure, null)
    t.same(told.recovered, [{ details: 5, unattributed: 0 }])
    t.equal(
      sumOf(log, { source: '100.64.0.1' }, 'minute', START, START + MINUTE).attempts,
      5,
      'sums are whole',
    )
    t.equal(log.recent({ limit: 10 }).length, 0)
    log.close()
  })

  t.test('a damaged file is set aside', async (t) => {
    const root = await folder(t)
    const path = join(root, 'attempts.db')
    const first = open(path)
    for (let i = 0; i < 500; i++) tell(first.log, attempt(START + i, '100.64.0.1'))
    first.log.flush(START)
    first.log.close()
    await writeFile(path, Buffer.alloc(8_192, 'x'))
    const { log, told } = open(path)
    t.same(log.restore(START), { totals: null, machines: [] })
    t.same(told, { failed: [], recovered: [], setAside: [`${path}.damaged`] })
    tell(log, attempt(START, '100.64.0.1'))
    log.flush(START)
    t.equal(log.recent({ limit: 10 }).length, 1)
    log.close()
    t.same((await readdir(root)).sort(), ['attempts.db', 'attempts.db.damaged'])
  })

  t.test('damage in the middle, which shows while it is used', async (t) => {
    const path = join(await folder(t), 'attempts.db')
    const first = open(path)
    for (let i = 0; i < 2_000; i++) tell(first.log, attempt(START + i, '100.64.0.1'))
    first.log.flush(START)
    first.log.close()
    const { openSync, writeSync, closeSync, statSync } = await import('node:fs')
    const file = openSync(path, 'r+')
    const { size } = statSync(path)
    writeSync(file, Buffer.alloc(size - 4_096, 0xff), 0, size - 4_096, 4_096)
    closeSync(file)
    const { log, told } = open(path)
    log.restore(START)
    tell(log, attempt(START, '100.64.0.9'))
    log.flush(START)
    t.equal(told.setAside.length, 1)
    t.equal(log.failure, null)
    t.equal(log.recent({ limit: 10 })[0]?.source, '100.64.0.9')
    log.close()
  })

  t.test('a file of another version is set aside, too', async (t) => {
    const path = join(await folder(t), 'attempts.db')
    const other = new DatabaseSync(path)
    other.exec('PRAGMA user_version = 99')
    other.close()
    const { log, told } = open(path)
    log.flush(START)
    t.equal(told.setAside.length, 1)
    t.equal(log.failure, null)
    log.close()
  })
})

t.test('killed in the middle of writing: what was flushed is there, and the file is sound', async (t) => {
  const path = join(await folder(t), 'attempts.db')
  const store = new URL('../../src/store/attempts.ts', import.meta.url).href
  const prefix = new URL('../../src/policy/prefix.ts', import.meta.url).href
  const script = `
    import { writeSync } from 'node:fs'
    import { AttemptLog } from ${JSON.stringify(store)}
    import { parseAddress } from ${JSON.stringify(prefix)}
    const fail = (error) => { throw error }
    const log = new AttemptLog({ path: process.argv[1], retain: 9e9, retainDetail: 9e9,
      onFailed: fail, onRecovered: fail, onSetAside: fail })
    const destination = parseAddress('203.0.113.9')
    for (let flush = 0, time = ${START}; ; flush++) {
      for (let i = 0; i < 500; i++) {
        const source = '100.64.0.' + (i % 200)
        log.add({ time: time++, source: parseAddress(source), sourcePort: 1, destination, policy: 'p',
          verdict: 'block', because: null, interface: null, uid: null, mac: null }, { source, allowed: false })
      }
      log.flush(time)
      writeSync(1, String(flush + 1) + '\\n')
    }`
  for (const after of [3, 17, 40]) {
    await rm(path, { force: true })
    for (const suffix of ['-wal', '-shm']) await rm(path + suffix, { force: true })
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let out = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
      if (out.split('\n').length > after) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const flushed = Number(out.trim().split('\n').at(-1)) * 500
    const database = new DatabaseSync(path)
    t.equal(database.prepare('PRAGMA integrity_check').get()?.['integrity_check'], 'ok')
    const count = (sql: string) => Number(database.prepare(sql).get()?.['n'])
    const found = count('SELECT max(id) AS n FROM detail')
    t.ok(found === flushed || found === flushed + 500, `${found} of ${flushed}`)
    for (const { step } of LEVELS) {
      t.equal(count(`SELECT sum(attempts) AS n FROM machine_${step}`), found)
      t.equal(count(`SELECT sum(told) AS n FROM label_${step}`), found)
    }
    database.close()
  }
})

t.test('a machine that was forgotten meanwhile is remembered anew', async (t) => {
  const path = join(await folder(t), 'attempts.db')
  const { log } = open(path)
  const see = () => {
    log.add(attempt(START, '100.64.0.1'), { source: '100.64.0.1', allowed: false })
    log.flush(START)
  }
  see()
  see()
  const other = new DatabaseSync(path)
  const rows = () =>
    other
      .prepare('SELECT source, attempts FROM machines')
      .all()
      .map((row) => ({ ...row }))
  t.same(rows(), [{ source: '100.64.0.1', attempts: 2 }])
  other.exec('DELETE FROM machines')
  see()
  t.same(rows(), [{ source: '100.64.0.1', attempts: 1 }])
  // What was written in a transaction that failed is not there, and must not be taken for known.
  other.exec('DELETE FROM machines')
  other.exec("CREATE TRIGGER broken BEFORE INSERT ON machine_week BEGIN SELECT raise(ABORT, 'broken'); END")
  see()
  t.same(rows(), [])
  other.exec('DROP TRIGGER broken')
  log.flush(START)
  t.same(rows(), [{ source: '100.64.0.1', attempts: 1 }])
  other.close()
  log.close()
})

t.test('what relays and their users usually do is kept', async (t) => {
  const database = openDatabase(join(await folder(t), 'egress25.db'))
  t.teardown(() => database.close())
  const store = new BaselineStore(database, (error) => t.fail(error.message))
  const usual = { since: START, attempts: 60.5, destinations: 30, at: START + MINUTE }
  const baselines = ['192.0.2.25', '2001:db8::/64'].flatMap((source) =>
    [null, 0, 1_001].map((uid) => ({ source, uid, ...usual })),
  )
  store.save(baselines)
  store.save(baselines.slice(0, 1))
  const byText = (one: object, other: object) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1)
  t.same(store.all().sort(byText), baselines.toSorted(byText))
})

t.test('from the kernel to the history', async (t) => {
  const TOTALS: Total[] = [
    { id: 1, what: { of: 'attempts', policy: 'residential', verdict: 'block' } },
    { id: 2, what: { of: 'allowed', because: 'relay' } },
    { id: 3, what: { of: 'logged' } },
  ]
  /** A kernel, of which the history sees what it would see of the real one. */
  class Kernel {
    now = START
    readonly totals = new Map([
      [1, 0],
      [2, 0],
      [3, 0],
    ])
    readonly sets = new Map<string, Map<string, number>>([
      ['sources4', new Map()],
      ['senders4', new Map()],
    ])
    broken = false
    size = 100

    attempt(source: string, times = 1, allowed = false): void {
      const total = allowed ? 2 : 1
      this.totals.set(total, (this.totals.get(total) ?? 0) + times)
      const set = this.sets.get(allowed ? 'senders4' : 'sources4')
      set?.set(source, (set.get(source) ?? 0) + times)
    }

    history(path: string, tallies: Tally[] = []): { history: AttemptHistory; told: Told } {
      const { log, told } = open(path)
      const learned = [...this.sets.keys(), 'muted4'].map((name) => ({ name, size: this.size }))
      const controller = {
        exclusively: (work: () => Promise<unknown>) => work(),
        inForce: { ruleset: { learned }, model: { policies: [] } },
      } as unknown as AttemptHistoryOptions['controller']
      const history = new AttemptHistory({
        log,
        controller,
        readSet: async (set) => {
          if (this.broken) throw new Error('no answer')
          const elements = [...(this.sets.get(set) ?? [])]
          return elements.map(([address, packets]) => ({ address, packets, bytes: 0, expires: 86_000 }))
        },
        forget: async (set, addresses) => {
          for (const address of addresses) this.sets.get(set)?.delete(address)
        },
        maxSources: 100,
        now: () => this.now,
        onTally: (some) => tallies.push(...some),
        onUnreadable: () => {},
      })
      return { history, told }
    }

    async pass(history: AttemptHistory, minutes: number): Promise<void> {
      for (let minute = 0; minute < minutes; minute++) {
        this.now += MINUTE
        history.look(TOTALS, this.totals)
        history.tick(this.now)
        await manyTurns()
        history.tick(this.now)
      }
    }
  }
  /** More turns of the event loop than reading the counters takes, however long each of them is. */
  async function manyTurns(): Promise<void> {
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
  }
  const total = (kernel: Kernel, history: AttemptHistory, source: string) =>
    sumOf(history.log, { source }, 'minute', START, kernel.now + MINUTE)

  t.test('a set that is nearly full forgets who did least, and counts stay exact', async (t) => {
    const path = join(await folder(t), 'attempts.db')
    const kernel = new Kernel()
    kernel.size = 8
    let { history } = kernel.history(path)
    await kernel.pass(history, 1)
    const sources = Array.from({ length: 7 }, (_, i) => `100.64.0.${i + 1}`)
    for (const [i, source] of sources.entries()) kernel.attempt(source, i + 1)
    await kernel.pass(history, 1)
    t.same([...(kernel.sets.get('sources4')?.keys() ?? [])], sources.slice(3), 'the heaviest half stays')
    kernel.attempt(sources[0] as string, 2)
    await kernel.pass(history, 1)
    kernel.attempt(sources[1] as string, 5)
    await history.stop()
    // Where a counter stood that was forgotten, the next run must not go on from.
    history = kernel.history(path).history
    await kernel.pass(history, 2)
    t.same(
      sources.map((source) => total(kernel, history, source).attempts),
      [3, 7, 3, 4, 5, 6, 7],
    )
    await history.stop()
  })

  t.test('when much is not told, counters are read before the minute is over', async (t) => {
    const kernel = new Kernel()
    const tallies: Tally[] = []
    const { history } = kernel.history(join(await folder(t), 'attempts.db'), tallies)
    await kernel.pass(history, 2)
    const second = async (seconds: number) => {
      kernel.now += 1_000 * seconds
      history.look(TOTALS, kernel.totals)
      history.tick(kernel.now)
      await manyTurns()
    }
    await second(15)
    kernel.attempt('100.64.0.1', 1_300)
    for (let i = 0; i < 400; i++) history.observe(attempt(kernel.now, '100.64.0.1'))
    await second(1)
    t.equal(tallies.length, 0, 'nearly all was told')
    kernel.attempt('100.64.0.0', 100)
    await second(1)
    t.equal(tallies.length, 0, 'it may go on')
    await second(1)
    t.same(
      tallies.map(({ machine, attempts }) => [formatPrefix(machine), attempts]),
      [
        ['100.64.0.1', 1_300],
        ['100.64.0.0', 100],
      ],
      'who did most comes first',
    )
    kernel.attempt('100.64.0.3', 5_000)
    for (const seconds of [1, 3, 5]) await second(seconds)
    t.equal(tallies.length, 2, 'but not again and again')
    await second(1)
    t.same(tallies.at(-1)?.attempts, 5_000)
    await second(10)
    for (let seconds = 0; seconds < 5; seconds++) {
      kernel.attempt('100.64.0.3', 2_000)
      await second(1)
    }
    t.equal(tallies.length, 3, 'what goes on')
    kernel.attempt('100.64.0.3', 2_000)
    await second(1)
    t.same(tallies.at(-1)?.attempts, 12_000, 'is not waited for too long')
    t.same(total(kernel, history, '100.64.0.1'), { attempts: 1_300, told: 400, allowed: 0 })
    await history.stop()
  })

  t.test('exact over withheld events, restarts, kills and failures', async (t) => {
    const path = join(await folder(t), 'attempts.db')
    const kernel = new Kernel()
    kernel.attempt('100.64.0.1', 1_000)
    const tallies: Tally[] = []
    let { history } = kernel.history(path, tallies)
    await kernel.pass(history, 1)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 0, 'what was before is nobody’s')

    kernel.attempt('100.64.0.1', 5)
    kernel.attempt('100.64.0.2', 2)
    kernel.attempt('192.0.2.25', 3, true)
    for (let i = 0; i < 3; i++) history.observe(attempt(kernel.now, '100.64.0.1'))
    history.observe(attempt(kernel.now, '192.0.2.25', { verdict: 'allow', policy: null, because: 'relay' }))
    await kernel.pass(history, 2)
    t.same(total(kernel, history, '100.64.0.1'), { attempts: 5, told: 3, allowed: 0 })
    t.same(total(kernel, history, '100.64.0.2'), { attempts: 2, told: 0, allowed: 0 })
    t.same(total(kernel, history, '192.0.2.25'), { attempts: 0, told: 0, allowed: 3 })
    t.same(sumOf(history.log, 'all', 'hour', START, kernel.now), { attempts: 7, told: 3, allowed: 3 })
    t.same(
      tallies.map(({ machine, attempts, allowed }) => [formatPrefix(machine), attempts, allowed]),
      [
        ['100.64.0.1', 5, false],
        ['100.64.0.2', 2, false],
        ['192.0.2.25', 3, true],
      ],
    )

    // Killed: what was told is written, its counter not read; then the kernel goes on without us.
    kernel.attempt('100.64.0.1', 4)
    for (let i = 0; i < 3; i++) history.observe(attempt(kernel.now, '100.64.0.1'))
    history.log.flush(kernel.now)
    history.log.close()
    kernel.attempt('100.64.0.1', 10)
    kernel.now += 10 * MINUTE
    const news: Tally[] = []
    history = kernel.history(path, news).history
    await kernel.pass(history, 3)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 19)
    t.match(news, [{ attempts: 11 }], 'what the run before was told of is no news')
    t.equal(sumOf(history.log, 'all', 'hour', START, kernel.now).attempts, 21)

    kernel.broken = true
    kernel.attempt('100.64.0.1')
    await kernel.pass(history, 3)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 19)
    kernel.broken = false
    await kernel.pass(history, 2)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 20, 'a reading that failed is made up for')

    // The file cannot be reached for a while: all of it is still in the kernel.
    history.log.close()
    await rename(path, `${path}.away`)
    await mkdir(path)
    for (let minute = 0; minute < 100; minute++) {
      kernel.attempt('100.64.0.1')
      history.observe(attempt(kernel.now, '100.64.0.1'))
      await kernel.pass(history, 1)
    }
    t.not(history.log.failure, null)
    await rm(path, { recursive: true })
    await rename(`${path}.away`, path)
    await kernel.pass(history, 4)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 120)
    t.equal(sumOf(history.log, 'all', 'hour', START, kernel.now).attempts, 122)
    await history.stop()
  })

  t.test('a counter that somebody asked for counts at once, and once', async (t) => {
    const kernel = new Kernel()
    const { history } = kernel.history(join(await folder(t), 'attempts.db'))
    await kernel.pass(history, 1)
    kernel.attempt('100.64.0.1', 7)
    history.observe(attempt(kernel.now, '100.64.0.1'))
    history.countOne(address('100.64.0.1'), false, '100.64.0.1', 7)
    history.log.flush(kernel.now)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 7)
    await kernel.pass(history, 3)
    t.equal(total(kernel, history, '100.64.0.1').attempts, 7)
    await history.stop()
  })

  t.test('nothing is read while nothing happens', async (t) => {
    const kernel = new Kernel()
    const { history } = kernel.history(join(await folder(t), 'attempts.db'))
    await kernel.pass(history, 3)
    kernel.broken = true
    kernel.sets.set('sources4', new Map([['100.64.0.9', 9]]))
    await kernel.pass(history, 3)
    kernel.broken = false
    await kernel.pass(history, 3)
    t.equal(total(kernel, history, '100.64.0.9').attempts, 0)
    await history.stop()
  })
})

t.test('times in questions', async (t) => {
  t.equal(readTime('2026-06-01T00:00:00Z', 'from'), START)
  t.equal(readTime('2026-06-01T02:00:00.1234+02:00', 'from'), START + 123)
  for (const wrong of ['', 'today', '2026-06-01', '2026-06-01T00:00:00', '2026-02-30T00:00:00Z', '1']) {
    t.throws(() => readTime(wrong, 'from'), { code: 'bad-request' })
  }
  const now = START + 100 * DAY
  t.same(readSpan({}, now), { from: now - DAY, to: now })
  t.throws(() => readSpan({ from: '2026-06-02T00:00:00Z', to: '2026-06-02T00:00:00Z' }, now), {
    code: 'bad-request',
  })
  const at = { now, retain: 90 * DAY }
  const stepFor = (length: number, step?: Step) => seriesSpan({ from: now - length, to: now }, step, at).step
  t.same(
    [HOUR, 6 * HOUR, DAY, 14 * DAY, 90 * DAY].map((length) => stepFor(length)),
    ['minute', 'minute', 'hour', 'hour', 'day'],
  )
  t.equal(
    seriesSpan({ from: START, to: START + HOUR }, undefined, at).step,
    'day',
    'finer ones are forgotten',
  )
  t.equal(stepFor(DAY, 'minute'), 'minute')
  t.throws(() => stepFor(2 * DAY, 'minute'), { code: 'bad-request' }, 'too many points')
  t.throws(() => stepFor(15 * DAY, 'hour'), { code: 'bad-request' }, 'not kept for so long')
  const ranked = rankingSpan({ from: now - 90 * DAY, to: now }, now)
  t.equal(ranked.step, 'week')
  t.ok(ranked.from <= now - 90 * DAY && ranked.to === now)
})

t.test('what cannot be written now is written later, in its order, the latest of each subject alone', (t) => {
  const database = new DatabaseSync(':memory:')
  database.exec('CREATE TABLE said (what TEXT UNIQUE)')
  const told: unknown[] = []
  let isFull = false
  const writes = new WaitingWrites({
    database,
    onFailed: ({ message }) => told.push(message),
    onRecovered: (lost) => told.push(lost),
    onRefused: ({ message }) => told.push(message),
  })
  const insert = database.prepare('INSERT INTO said VALUES (?)')
  const say = (what: string) => () => {
    if (isFull) throw Object.assign(new Error('full'), { code: 'ERR_SQLITE_ERROR', errcode: 13 })
    insert.run(what)
  }
  const said = () =>
    database
      .prepare('SELECT what FROM said ORDER BY rowid')
      .all()
      .map(({ what }) => what)
  writes.write('a', say('opened a'))
  isFull = true
  writes.write('b', say('opened b'))
  writes.writeLatest(new Map([['b', say('b grew')]]))
  writes.writeLatest(new Map([['b', say('b grew more')]]))
  writes.writeLatest(new Map([['c', say('c grew')]]))
  writes.write('c', say('resolved c'))
  writes.retry()
  t.same(said(), ['opened a'])
  isFull = false
  writes.retry()
  t.same(said(), ['opened a', 'opened b', 'resolved c', 'b grew more'])
  t.same(told, ['full', 0])

  // One that can never be written keeps no other, and very many are too many.
  isFull = true
  for (const what of ['d', 'opened a', 'e']) writes.write(what, say(what))
  for (let number = 0; number < 10_000; number++) writes.write(String(number), say(String(number)))
  isFull = false
  writes.retry()
  t.equal(said().length, 4 + 10_000)
  t.same(told, ['full', 0, 'full', 3])
  isFull = true
  for (const what of ['d', 'opened a', 'e']) writes.write(what, say(what))
  isFull = false
  writes.retry()
  t.same(said().slice(-2), ['d', 'e'])
  t.match(told, ['full', 0, 'full', 3, 'full', /UNIQUE/, 0])
  t.end()
})

t.test(
  'a database that cannot be written keeps nobody from starting, nor what can be forgotten',
  async (t) => {
    const forgotten: string[] = []
    const prunes = (name: string) => ({ prune: () => forgotten.push(name) })
    const ticks = { tick() {} }
    const upkeep = startUpkeep(
      { retain: DAY, retainSubscribers: HOUR },
      {
        incidents: {
          prune() {
            throw new Error('attempt to write a readonly database')
          },
          forgetSubscribers: () => forgotten.push('subscribers'),
        },
        lapses: prunes('lapses'),
        baselines: prunes('baselines'),
        exemptions: prunes('exemptions'),
        evidence: { prune: () => forgotten.push('evidence') },
        alerts: { prune: () => forgotten.push('alerts'), ...ticks },
        events: ticks,
        news: ticks,
        monitor: { detector: { open: () => [] } },
        controller: { keepForBoot: async () => {} },
        log: pino({ enabled: false }),
      },
    )
    upkeep.stop()
    t.same(forgotten, ['lapses', 'baselines', 'exemptions', 'alerts', 'evidence', 'subscribers'])
  },
)

/** What becomes of news: nothing is lost, storms are told together, order is kept; all without a clock or a network. */
import fc from 'fast-check'
import t from 'tap'
import { incidentNews } from '../../src/alerts/incident-news.ts'
import type { HeldBecause, IncidentNews, Severity } from '../../src/alerts/message.ts'
import { digestOf } from '../../src/alerts/planning/digest.ts'
import { factsOf, isWanted } from '../../src/alerts/planning/facts.ts'
import type { Handling, Routing } from '../../src/alerts/planning/handling.ts'
import { plan } from '../../src/alerts/planning/plan.ts'
import type { Planned, Recent, Waiting } from '../../src/alerts/planning/planner.ts'
import { isQuiet, quietFor } from '../../src/alerts/planning/quiet-hours.ts'
import { remindersDue } from '../../src/alerts/planning/reminders.ts'
import { incidentSeverity } from '../../src/alerts/planning/severity.ts'
import { isSilencedBy, type Silence } from '../../src/alerts/planning/silence.ts'
import { INCIDENT_KINDS } from '../../src/detect/incident.ts'
import { type Prefix, parsePrefix } from '../../src/policy/prefix.ts'
import { incident, NOW } from './alert-support.ts'
import './seed.ts'

const MINUTE = 60_000
const HANDLING: Handling = {
  limit: { count: 10, per: MINUTE },
  group: { by: ['network', 'kind'], first: 3, wait: MINUTE },
  quietHours: null,
  remind: null,
  giveUp: 1_000 * MINUTE,
  timeout: 10_000,
  parallel: 4,
  language: 'en',
}
const ESCALATION = { incidents: 3, within: 30 * 86_400_000 }

function newsOf(id: string, event: IncidentNews['event'] = 'opened', more = {}): IncidentNews {
  const context = {
    gateway: 'gw1',
    network: '100.64.0.0/10',
    subscriber: null,
    occurrence: 1,
    escalation: ESCALATION,
  }
  return incidentNews(event, incident(id, more), NOW, context)
}

/** A channel with a receiver that takes what it is given when it is told to. */
class Simulation {
  now = NOW
  readonly told: Planned[] = []
  readonly silenced: Waiting[] = []
  readonly #handling: Handling
  readonly #isSilenced: (id: string) => boolean
  #waiting: Waiting[] = []
  #recent: Recent[] = []
  #held: ReadonlyMap<number, HeldBecause> = new Map()
  #undelivered: Planned[] = []
  #nextId = 0
  #lookAgain: number | null = null
  times: number[] = []

  constructor(handling: Handling, isSilenced: (incident: string) => boolean = () => false) {
    this.#handling = handling
    this.#isSilenced = isSilenced
  }

  leave(...news: IncidentNews[]): void {
    for (const one of news) this.#waiting.push({ id: ++this.#nextId, time: this.now, facts: factsOf(one) })
    this.look()
  }

  look(): void {
    const busy = new Set(this.#undelivered.flatMap(({ news }) => news.map(({ facts }) => facts.incident?.id)))
    const { messages, silenced, held, lookAgain } = plan(
      this.#waiting,
      { recent: this.#recent, undelivered: this.#undelivered.length, busy, dropped: 0, held: this.#held },
      this.#handling,
      ({ incident }) => this.#isSilenced(incident?.id ?? ''),
      this.now,
    )
    const gone = new Set([...messages.flatMap(({ news }) => news), ...silenced])
    this.#waiting = this.#waiting.filter((one) => !gone.has(one))
    this.silenced.push(...silenced)
    this.#undelivered.push(...messages)
    this.#held = held
    this.#lookAgain = lookAgain
    for (const { groups, digest } of messages) {
      this.#recent.push({ time: this.now, groups, isDigest: digest !== null })
      this.times.push(this.now)
    }
  }

  /** So many of the messages on their way arrive, in any order. */
  deliver(count: number, pick: (length: number) => number = () => 0): void {
    for (let i = 0; i < count && this.#undelivered.length > 0; i++) {
      this.told.push(...this.#undelivered.splice(pick(this.#undelivered.length), 1))
    }
    this.look()
  }

  pass(milliseconds: number): void {
    const end = this.now + milliseconds
    while (this.#lookAgain !== null && this.#lookAgain <= end) {
      this.now = Math.max(this.now + 1, this.#lookAgain)
      this.look()
    }
    this.now = Math.max(this.now, end)
  }

  get left(): number {
    return this.#waiting.length + this.#undelivered.length
  }

  /** Until all that waits has arrived. */
  drain(): void {
    for (let i = 0; this.left > 0 && i < 2_000; i++) {
      this.deliver(1_000_000)
      this.pass(5 * MINUTE)
    }
  }
}

t.test('an outbreak of 5,000 machines in a minute is a handful of messages', async (t) => {
  const channel = new Simulation(HANDLING)
  const machine = (i: number) => ({ source: `100.64.${i >> 8}.${i & 255}`, attempts: i })
  for (let i = 0; i < 5_000; i += 100) {
    channel.leave(...Array.from({ length: 100 }, (_, n) => newsOf(`i${i + n}`, 'opened', machine(i + n))))
    channel.deliver(10)
    channel.pass(1_200)
  }
  channel.drain()
  t.equal(channel.told.flatMap(({ news }) => news).length, 5_000)
  t.ok(channel.told.length <= 5, `${channel.told.length} messages`)
  const digest = channel.told.find((one) => one.digest !== null) as Planned
  t.same(digest.digest, ['group'])
  const bodies = new Map(digest.news.map(({ id }) => [id, id]))
  const news = digestOf(digest.news, {
    gateway: 'gw1',
    now: NOW,
    because: ['group'],
    dropped: 0,
    read: (id) => newsOf(`read ${bodies.get(id)}`),
  })
  t.match(news, {
    event: 'digest',
    severity: 'warning',
    digest: {
      machines: digest.news.length,
      by_kind: { 'spam-bot': digest.news.length },
      worst: { length: 10 },
    },
  })
  t.same(news.digest.by_network, [{ network: '100.64.0.0/10', machines: digest.news.length }])
  const worst = digest.news.reduce((a, b) =>
    (a.facts.incident?.attempts ?? 0) > (b.facts.incident?.attempts ?? 0) ? a : b,
  )
  t.equal(news.digest.worst[0]?.id, `read ${worst.id}`)
})

t.test('whatever happens, each piece of news is told once, alone or with others, or silenced', async () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ incident: fc.nat(12), kind: fc.nat(4), severe: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ deliver: fc.nat(6), seed: fc.nat(100) }) },
    { weight: 2, arbitrary: fc.record({ pass: fc.nat(3 * MINUTE) }) },
  )
  const handlings = fc.record({
    limit: fc.option(fc.record({ count: fc.integer({ min: 1, max: 6 }), per: fc.constant(MINUTE) })),
    first: fc.nat(4),
    wait: fc.integer({ min: 1_000, max: 2 * MINUTE }),
    quiet: fc.boolean(),
    except: fc.constantFrom<Severity | null>('critical', 'warning', null),
  })
  fc.assert(
    fc.property(handlings, fc.array(step, { maxLength: 120 }), (chosen, steps) => {
      const { limit, first, wait, quiet, except } = chosen
      const quietHours = quiet ? { from: 0, to: 900, zone: 'UTC', except } : null
      const handling: Handling = { ...HANDLING, limit, group: { by: ['kind'], first, wait }, quietHours }
      const channel = new Simulation(handling, (id) => id === 'i7')
      let left = 0
      for (const one of steps) {
        if ('pass' in one) channel.pass(one.pass)
        else if ('deliver' in one) channel.deliver(one.deliver, (length) => one.seed % length)
        else {
          left++
          const kind = INCIDENT_KINDS[one.kind] ?? 'flood'
          const confidence = one.severe ? 'definite' : 'likely'
          channel.leave(newsOf(`i${one.incident}`, 'updated', { kind, confidence }))
        }
      }
      channel.drain()
      if (channel.left > 0) throw new Error(`${channel.left} are stuck`)
      const told = channel.told.flatMap(({ news }) => news)
      const ids = new Set([...told, ...channel.silenced].map(({ id }) => id))
      if (ids.size !== left || told.length + channel.silenced.length !== left)
        throw new Error('lost or twice')
      if (channel.silenced.some(({ facts }) => facts.incident?.id !== 'i7')) throw new Error('silenced')
      const last = new Map<string, number>()
      for (const { id, facts } of told) {
        const before = last.get(facts.incident?.id ?? '') ?? 0
        if (before > id) throw new Error(`${facts.incident?.id}: ${id} after ${before}`)
        last.set(facts.incident?.id ?? '', id)
      }
      for (const { digest, news } of channel.told) {
        if (digest === null && news.length !== 1) throw new Error('a single message of much')
        if (digest !== null && limit === null) throw new Error('a digest without a limit')
      }
      if (limit === null) return
      for (const time of channel.times) {
        const within = channel.times.filter((one) => one > time - limit.per && one <= time).length
        if (within > limit.count) throw new Error(`${within} messages within ${limit.per} ms`)
      }
    }),
    { numRuns: 200 },
  )
})

t.test('a receiver that comes back after long is told of what it missed in one message', async (t) => {
  const channel = new Simulation(HANDLING)
  for (let i = 0; i < 600; i++) {
    channel.leave(newsOf(`i${i}`, 'opened', { kind: INCIDENT_KINDS[i % 5] ?? 'flood' }))
    channel.pass(MINUTE)
  }
  channel.drain()
  t.equal(channel.told.flatMap(({ news }) => news).length, 600)
  t.ok(channel.told.length <= 15, `${channel.told.length} messages`)
})

t.test('quiet hours', async (t) => {
  const night = { from: 22 * 60, to: 6 * 60, zone: 'Europe/Berlin', except: 'critical' } as const
  const at = (time: string) => isQuiet(night, Date.parse(time))
  t.same(
    [
      at('2026-06-01T19:59:59Z'),
      at('2026-06-01T20:00:00Z'),
      at('2026-06-02T03:59:00Z'),
      at('2026-06-02T04:00:00Z'),
    ],
    [false, true, true, false],
    'in summer',
  )
  t.same([at('2026-12-01T20:59:59Z'), at('2026-12-01T21:00:00Z')], [false, true], 'in winter')
  // The night of 29 March 2026 has no 02:30; whoever waits for 06:00 must not wait until 07:00.
  let now = Date.parse('2026-03-28T23:30:10Z')
  while (isQuiet(night, now)) now += quietFor(night, now)
  t.equal(new Date(now).toISOString(), '2026-03-29T04:00:00.000Z')
  t.equal(isQuiet({ ...night, from: 0, to: 0 }, NOW), true, 'the whole day')

  const channel = new Simulation({ ...HANDLING, quietHours: { ...night, zone: 'UTC' } })
  channel.now = Date.parse('2026-06-01T23:00:00Z')
  channel.leave(newsOf('a'), newsOf('b'), newsOf('loud', 'opened', { confidence: 'definite' }))
  channel.deliver(10)
  t.same(
    channel.told.map(({ news }) => news.map(({ facts }) => facts.incident?.id)),
    [['loud']],
  )
  channel.leave(newsOf('a', 'updated', { confidence: 'definite' }))
  channel.pass(MINUTE)
  channel.deliver(10)
  channel.deliver(10)
  t.same(
    channel.told.slice(1).map(({ news }) => news.map(({ facts }) => `${facts.incident?.id} ${facts.event}`)),
    [['a opened', 'a updated']],
    'what wakes people brings the beginning along',
  )
  channel.pass(8 * 60 * MINUTE)
  channel.deliver(10)
  t.match(channel.told[2], { news: [{ facts: { incident: { id: 'b' } } }], digest: null })
})

t.test('who hears of what', async (t) => {
  const everything: Routing = { minSeverity: 'info', about: [], kinds: [], policies: [], networks: [] }
  const facts = factsOf(newsOf('a'))
  const wanted = (more: Partial<Routing>) => isWanted(facts, { ...everything, ...more })
  t.equal(wanted({}), true)
  t.equal(wanted({ minSeverity: 'warning' }), true)
  t.equal(wanted({ minSeverity: 'critical' }), false)
  t.equal(wanted({ about: ['drift'] }), false)
  t.equal(wanted({ kinds: ['flood'] }), false)
  t.equal(wanted({ policies: ['residential'] }), true)
  t.equal(wanted({ policies: ['hosting'] }), false)
  t.equal(wanted({ networks: [parsePrefix('100.64.0.0/16') as Prefix] }), true)
  t.equal(wanted({ networks: [parsePrefix('2001:db8::/32') as Prefix] }), false)
  const drift = factsOf({ event: 'table-contested', gateway: 'g', time: '', severity: 'critical', by: null })
  t.equal(isWanted(drift, { ...everything, kinds: ['flood'] }), true, 'kinds are about incidents only')
  t.equal(isWanted(drift, { ...everything, about: ['incident'] }), false)
})

t.test('severity, and what becomes of repeat offenders', async (t) => {
  const severity = (
    kind: (typeof INCIDENT_KINDS)[number],
    confidence: 'likely' | 'definite',
    occurrence: number,
  ) => incidentSeverity({ kind, confidence }, occurrence, ESCALATION)
  t.equal(severity('misconfigured-client', 'likely', 1), 'info')
  t.equal(severity('misconfigured-client', 'likely', 3), 'warning')
  t.equal(severity('spam-bot', 'likely', 2), 'warning')
  t.equal(severity('spam-bot', 'likely', 3), 'critical')
  t.equal(severity('spam-bot', 'definite', 9), 'critical')
})

t.test('silences', async (t) => {
  const silence: Silence = {
    id: 's',
    from: NOW,
    until: NOW + MINUTE,
    channels: ['noc'],
    concern: { kinds: [], policies: [], networks: [parsePrefix('100.64.1.0/24') as Prefix] },
    everything: false,
    reason: null,
    by: 'me',
  }
  const facts = factsOf(newsOf('a'))
  t.equal(isSilencedBy(silence, 'noc', facts, NOW), true)
  t.equal(isSilencedBy(silence, 'noc', facts, NOW - 1), false)
  t.equal(isSilencedBy(silence, 'noc', facts, NOW + MINUTE), false)
  t.equal(isSilencedBy(silence, 'other', facts, NOW), false)
  t.equal(isSilencedBy(silence, 'noc', factsOf(newsOf('a', 'opened', { source: '100.64.2.1' })), NOW), false)
  t.equal(
    isSilencedBy(silence, 'noc', factsOf(newsOf('a', 'resolved')), NOW),
    false,
    'the end of what was told before it',
  )
  const since = factsOf(newsOf('a', 'resolved', { firstSeen: NOW + 1 }))
  t.equal(isSilencedBy(silence, 'noc', since, NOW + 2), true)
  const drift = factsOf({ event: 'table-contested', gateway: 'g', time: '', severity: 'critical', by: null })
  t.equal(isSilencedBy(silence, 'noc', drift, NOW), false)
  t.equal(isSilencedBy({ ...silence, everything: true }, 'noc', drift, NOW), true)
})

t.test('reminders: one for each day that it lasts, and none twice', async (t) => {
  const DAY = 24 * 60 * MINUTE
  const open = [
    incident('old', { firstSeen: NOW - 3 * DAY - 1 }),
    incident('new', { firstSeen: NOW - DAY + 1 }),
  ]
  const due = (told: [string, number][]) =>
    remindersDue(open, DAY, new Map(told), NOW).map(({ incident: { id }, number }) => `${id} ${number}`)
  t.same(due([]), ['old 3'])
  t.same(due([['old', 2]]), ['old 3'])
  t.same(due([['old', 3]]), [])
})

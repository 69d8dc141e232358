/** Judgement over attempts, with time passed in. */
import t from 'tap'
import { Detector } from '../../src/detect/detector.ts'
import type { IncidentEvent } from '../../src/detect/incident.ts'
import { SlidingWindow } from '../../src/detect/sliding-window.ts'
import { DEFAULT_THRESHOLDS } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import type { Attempt } from '../../src/watch/attempt.ts'

const START = 1_800_000_000_000

function setUp(maxMachines?: number) {
  let ids = 0
  const detector = new Detector({
    thresholds: (policy) => (policy === 'p' ? DEFAULT_THRESHOLDS : null),
    newId: () => `i${++ids}`,
    ...(maxMachines === undefined ? {} : { maxMachines }),
  })
  let port = 1_024
  const attempt = (source: string, destination: string, time: number, sourcePort = ++port): Attempt => ({
    time: START + time,
    source: parseAddress(source) as Prefix,
    sourcePort,
    destination: parseAddress(destination) as Prefix,
    policy: 'p',
    verdict: 'block',
    because: null,
    interface: null,
    uid: null,
    mac: null,
  })
  const see = (source: string, destination: string, time: number, sourcePort?: number) =>
    detector.observe(attempt(source, destination, time, sourcePort))
  return { detector, see, attempt }
}

const kinds = (events: readonly IncidentEvent[]) =>
  events.map(({ event, incident }) => `${event} ${incident.kind}`)

t.test('a spam-bot: many servers in a short time', async (t) => {
  const { see, detector } = setUp()
  const events = Array.from({ length: 40 }, (_, i) => see('100.64.1.2', `203.0.113.${i}`, i * 100)).flat()
  t.same(kinds(events), ['opened spam-bot'])
  t.match(events[0]?.incident, {
    attempts: 30,
    destinations: 30,
    confidence: 'likely',
    firstSeen: START,
    source: '100.64.1.2',
  })
  t.match(detector.open()[0], { attempts: 40, destinations: 40, lastSeen: START + 3_900 })
})

t.test('beyond doubt at three times the threshold', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 100 }, (_, i) => see('100.64.1.2', `203.0.113.${i}`, i * 10)).flat()
  t.same(
    events.map(({ event, incident }) => `${event} ${incident.confidence}`),
    ['opened likely', 'updated definite'],
  )
})

t.test('a misconfigured client: one server, patiently', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 12 }, (_, i) => see('100.64.1.2', '203.0.113.9', i * 60_000)).flat()
  t.same(kinds(events), ['opened misconfigured-client'])
  t.equal(events[0]?.incident.attempts, 5)
})

t.test('not enough for any word', async (t) => {
  t.test('five servers once each are the start of something, and not judged', async (t) => {
    const { see } = setUp()
    t.same(Array.from({ length: 9 }, (_, i) => see('100.64.1.2', `203.0.113.${i}`, i)).flat(), [])
  })
  t.test('one connection that retransmits', async (t) => {
    const { see } = setUp()
    t.same(Array.from({ length: 9 }, (_, i) => see('100.64.1.2', '203.0.113.9', i * 1_000, 4_000)).flat(), [])
  })
  t.test('attempts too far apart', async (t) => {
    const { see } = setUp()
    t.same(Array.from({ length: 50 }, (_, i) => see('100.64.1.2', '203.0.113.9', i * 200_000)).flat(), [])
  })
  t.test('a policy that is gone', async (t) => {
    const { detector, attempt } = setUp()
    const gone = { ...attempt('100.64.1.2', '203.0.113.9', 0), policy: 'gone' }
    t.same(Array.from({ length: 50 }, () => detector.observe(gone)).flat(), [])
  })
})

t.test('a client that turns out to be a bot is one incident that got worse, and never better', async (t) => {
  const { see, detector } = setUp()
  const events = [
    ...Array.from({ length: 6 }, (_, i) => see('100.64.1.2', '203.0.113.9', i)).flat(),
    ...Array.from({ length: 40 }, (_, i) => see('100.64.1.2', `198.51.100.${i}`, 100 + i)).flat(),
    ...Array.from({ length: 20 }, (_, i) => see('100.64.1.2', '203.0.113.9', 400_000 + i)).flat(),
  ]
  t.same(kinds(events), ['opened misconfigured-client', 'updated spam-bot'])
  t.equal(new Set(events.map(({ incident }) => incident.id)).size, 1)
  t.same(
    detector.open().map(({ kind }) => kind),
    ['spam-bot'],
  )
})

t.test('IPv6: one machine is one prefix', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 30 }, (_, i) =>
    see(`2001:db8:100:1::${i}`, `2001:db8:ffff::${i}`, i),
  ).flat()
  t.match(events, [{ event: 'opened', incident: { kind: 'spam-bot', source: '2001:db8:100:1::/64' } }])
  const apart = setUp()
  t.same(
    Array.from({ length: 30 }, (_, i) => apart.see(`2001:db8:100:${i}::1`, `2001:db8:ffff::${i}`, i)).flat(),
    [],
  )
})

t.test('resolved after quiet; what comes later is a new incident', async (t) => {
  const { see, detector } = setUp()
  const burst = (time: number) =>
    Array.from({ length: 30 }, (_, i) => see('100.64.1.2', `203.0.113.${i}`, time + i)).flat()
  burst(0)
  t.same(detector.tick(START + 3_600_000), [], 'not quite an hour')
  t.same(kinds(detector.tick(START + 29 + 3_600_000)), ['resolved spam-bot'])
  t.same(detector.open(), [])
  t.same(
    burst(4_000_000).map(({ incident }) => incident.id),
    ['i2'],
  )
})

t.test('resolved by a person, and watched afresh', async (t) => {
  const { see, detector } = setUp()
  for (let i = 0; i < 30; i++) see('100.64.1.2', `203.0.113.${i}`, i)
  t.equal(detector.resolve('i1', START + 50)?.incident.state, 'resolved')
  t.equal(detector.resolve('i1', START + 51), null)
  t.same(see('100.64.1.2', '203.0.113.99', 60), [])
})

t.test('an incident outlives a restart', async (t) => {
  const before = setUp()
  for (let i = 0; i < 35; i++) before.see('100.64.1.2', `203.0.113.${i}`, i)
  const [incident] = before.detector.open()
  if (incident === undefined) throw new Error('no incident')
  const after = setUp()
  after.detector.resume(incident)
  t.same(after.see('100.64.1.2', '203.0.113.1', 1_000), [], 'no second opening')
  t.match(after.detector.open(), [{ id: incident.id, attempts: 36, firstSeen: START }])
})

t.test('tenfold growth is news', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 400 }, (_, i) => see('100.64.1.2', '203.0.113.9', i)).flat()
  t.same(
    events.map(({ event, incident }) => `${event} ${incident.attempts}`),
    ['opened 5', 'updated 50'],
  )
})

t.test('memory is bounded, and open incidents are kept', async (t) => {
  const { see, detector } = setUp(100)
  for (let i = 0; i < 5; i++) see('100.64.1.2', '203.0.113.9', i)
  for (let i = 0; i < 10_000; i++) see(`100.65.${i >> 8}.${i & 255}`, '203.0.113.9', 10 + i)
  t.same(
    detector.open().map(({ source }) => source),
    ['100.64.1.2'],
  )
})

t.test('a window forgets what is old or too much', async (t) => {
  const window = new SlidingWindow(1_000, 3)
  const add = (time: number, destination: string) =>
    window.add({ time, destination, connection: destination })
  add(0, 'a')
  add(500, 'b')
  add(1_000, 'b')
  t.same([window.attempts, window.destinations, window.firstTime], [2, 1, 500])
  for (const name of ['c', 'd', 'e']) add(1_100, name)
  t.same([window.attempts, window.destinations], [3, 3])
})

/** Judgement over attempts, with time passed in. */
import t from 'tap'
import { Detector } from '../../src/detect/detector.ts'
import { DistinctEstimate } from '../../src/detect/distinct-estimate.ts'
import type { IncidentEvent } from '../../src/detect/incident.ts'
import { RecentCount, RecentKeys } from '../../src/detect/recent.ts'
import { SpaceSaving } from '../../src/detect/space-saving.ts'
import { DEFAULT_THRESHOLDS, type Thresholds } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import type { Attempt } from '../../src/watch/attempt.ts'

const START = 1_800_000_000_000

function setUp(maxMachines?: number, thresholds: Thresholds = DEFAULT_THRESHOLDS) {
  let ids = 0
  const detector = new Detector({
    thresholds: (policy) => (policy === 'p' ? thresholds : null),
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
    t.same(Array.from({ length: 14 }, (_, i) => see('100.64.1.2', '203.0.113.9', i * 200_000)).flat(), [])
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

t.test(
  'resolved after quiet; who comes back soon opens the same incident again, who comes later a new one',
  async (t) => {
    const { see, detector } = setUp()
    const burst = (time: number) =>
      Array.from({ length: 30 }, (_, i) => see('100.64.1.2', `203.0.113.${i}`, time + i)).flat()
    burst(0)
    t.same(detector.tick(START + 3_600_000), [], 'not quite an hour')
    t.same(kinds(detector.tick(START + 29 + 3_600_000)), ['resolved spam-bot'])
    t.same(detector.open(), [])
    t.match(burst(4_000_000), [
      {
        event: 'opened',
        incident: { id: 'i1', reopened: 1, firstSeen: START, attempts: 60, acknowledged: false },
      },
    ])
    t.same(kinds(detector.tick(START + 8_000_000)), ['resolved spam-bot'])
    t.match(burst(8_000_000 + 86_400_000), [{ event: 'opened', incident: { id: 'i2', reopened: 0 } }])
  },
)

t.test('resolved by a person, and watched afresh', async (t) => {
  const { see, detector } = setUp()
  for (let i = 0; i < 30; i++) see('100.64.1.2', `203.0.113.${i}`, i)
  t.match(detector.acknowledge('i1', START + 40), { event: 'updated', incident: { acknowledged: true } })
  t.equal(detector.acknowledge('i1', START + 41), null)
  t.match(detector.resolve('i1', START + 50), { incident: { state: 'resolved', acknowledged: true } })
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
    ['100.64.1.2', 'policy:p'],
  )
})

t.test('what is recent is counted in bounded memory', async (t) => {
  const keys = new RecentKeys<string>(1_000, 3)
  t.ok(keys.add('a', 0))
  t.ok(keys.add('b', 500))
  t.notOk(keys.add('b', 1_000), 'seen before')
  t.equal(keys.size, 1, 'what is old is gone')
  for (const name of ['c', 'd', 'e']) keys.add(name, 1_100)
  t.same([...keys.keys()], ['c', 'd', 'e'], 'of too many the oldest are forgotten')
  const count = new RecentCount(12_000)
  for (let second = 0; second < 100; second++) count.add(2, second * 1_000)
  t.equal(count.sum, 24)
  count.expire(105_000)
  t.equal(count.sum, 12)
  count.expire(10_000_000)
  t.equal(count.sum, 0)
})

t.test('the heaviest of very many are kept, with a bound on what is certain', async (t) => {
  const sketch = new SpaceSaving<number>(100, () => undefined)
  for (let i = 0; i < 20_000; i++) {
    sketch.add(1_000 + i)
    if (i % 20 === 0) sketch.add(i % 40 === 0 ? 1 : 2)
  }
  t.equal(sketch.size, 100)
  t.same(
    sketch
      .top(2)
      .map(({ key }) => key)
      .sort(),
    [1, 2],
  )
  for (const { count, error } of sketch.top(2))
    t.ok(count - error <= 500 && count >= 500, `${count} ${error}`)
})

t.test('distinct keys are counted to a few per cent', async (t) => {
  const estimate = new DistinctEstimate(4_096)
  for (let i = 0; i < 5_000; i++) {
    estimate.add(1_681_915_904 + i)
    estimate.add(1_681_915_904 + i)
  }
  t.ok(Math.abs(estimate.count - 5_000) < 250, String(estimate.count))
  estimate.clear()
  t.equal(estimate.count, 0)
  for (let i = 0; i < 500; i++) estimate.add(`2001:db8::${i}`)
  t.ok(Math.abs(estimate.count - 500) < 50, String(estimate.count))
})

t.test('a bot that is slow', async (t) => {
  const { see, detector } = setUp()
  const events = Array.from({ length: 25 }, (_, i) => see('100.64.1.2', `198.51.${i * 7}.25`, i * 1_800_000))
  t.match(events.flat(), [
    { event: 'opened', incident: { kind: 'spam-bot', evidence: { rule: 'slow-fan-out', destinations: 20 } } },
  ])
  t.same(
    detector.tick(START + 24 * 1_800_000 + 3_600_000),
    [],
    'an hour of quiet says nothing of one that is slow',
  )
  t.equal(detector.tick(START + 24 * 1_800_000 + 21_600_000).length, 1)
})

t.test('a bot with few targets and many connections', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 250 }, (_, i) =>
    see('100.64.1.2', `198.51.${i % 3}.25`, i * 400),
  ).flat()
  t.match(events.at(-1), {
    incident: { kind: 'spam-bot', evidence: { rule: 'hammering', connections: 200 } },
  })
})

t.test('a scanner: addresses next to each other', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 500 }, (_, i) =>
    see('100.64.1.2', `198.51.${100 + (i >> 8)}.${i & 255}`, i * 2_000),
  ).flat()
  t.match(events.at(-1), {
    incident: { kind: 'scanner', confidence: 'definite', evidence: { rule: 'neighbours' } },
  })
  t.equal(new Set(events.map(({ incident }) => incident.id)).size, 1)
})

t.test('a program that retries for hours, once in a while', async (t) => {
  const { see } = setUp()
  const events = Array.from({ length: 60 }, (_, i) => see('100.64.1.2', '203.0.113.9', i * 900_000)).flat()
  t.same(
    events.map(({ event, incident: { kind, confidence } }) => `${event} ${kind} ${confidence}`),
    ['opened misconfigured-client likely', 'updated misconfigured-client definite'],
  )
})

t.test('an exempt host is held against its own past', async (t) => {
  const { detector, attempt } = setUp()
  const send = (time: number, destination: string) =>
    detector.observe({
      ...attempt('192.0.2.25', destination, time),
      policy: null,
      verdict: 'allow',
      because: 'relay',
    })
  const day = 86_400_000
  const quiet: IncidentEvent[] = []
  for (let hour = 0; hour < 24 * 9; hour++)
    for (let i = 0; i < 60; i++) quiet.push(...send(hour * 3_600_000 + i * 1_000, `198.51.100.${i % 30}`))
  t.same(quiet, [])
  t.same(
    Array.from({ length: 200 }, (_, i) => send(9 * day + i, `198.51.100.${i % 100}`)).flat(),
    [],
    'three times as much is a busy day',
  )
  const events = Array.from({ length: 3_000 }, (_, i) =>
    send(9 * day + 600_000 + i * 100, `203.${i % 256}.113.${i >> 4}`),
  ).flat()
  t.match(events[0], {
    event: 'opened',
    incident: { kind: 'exempt-host-anomaly', source: '192.0.2.25', policy: null, verdict: 'allow' },
  })
  t.match(events.at(-1), { incident: { confidence: 'definite' } })
  const after = setUp()
  after.detector.know(detector.baselines())
  const again = { ...attempt('192.0.2.25', '198.51.100.1', 9 * day + 4_000_000), policy: null }
  t.same(
    after.detector.observe({ ...again, verdict: 'allow', because: 'relay' }),
    [],
    'known after a restart',
  )
  t.match(after.detector.baselines(), [{ source: '192.0.2.25', since: START }])
})

t.test(
  'an incident of an exempt host has what was counted since it left its custom, over a restart as well',
  async (t) => {
    const SPAN = 600_000
    const strict = {
      ...DEFAULT_THRESHOLDS,
      exemptHost: { factor: 2, attempts: 50, destinations: 50, learn: SPAN },
    }
    const begin = (stand: { packets: number; told: number } | null) => {
      const { attempt } = setUp()
      const detector = new Detector({
        thresholds: () => strict,
        governing: () => 'p',
        newId: () => 'i1',
        standOf: () => stand,
      })
      const send = (count: number, time: number) =>
        Array.from({ length: count }, (_, i) =>
          detector.observe({
            ...attempt('100.64.1.25', `198.51.${time % 250}.${i}`, time + i),
            ...({ policy: null, verdict: 'allow', because: 'exemption' } as const),
          }),
        ).flat()
      const counted = (attempts: number, packets: number, time: number) => {
        const machine = parseAddress('100.64.1.25') as Prefix
        const count = { machine, allowed: true, policy: null, verdict: 'allow' } as const
        return detector.counted([{ ...count, attempts, packets, time: START + time }])
      }
      const settled = (time: number) => {
        detector.tick(START + time + 5_000)
        return detector.open().map((one) => [one.attempts, one.lost, one.counter, one.firstSeen - START])
      }
      return { detector, send, counted, settled }
    }
    const first = begin(null)
    first.send(20, 0)
    first.counted(20, 20, 60_000)
    t.match(first.send(60, SPAN + 1), [{ event: 'opened' }])
    first.counted(60, 80, SPAN + 60_000)
    t.same(first.settled(SPAN + 60_000), [[60, 0, 80, SPAN + 1]], 'what it did before is no part of it')
    first.counted(1_000, 1_080, SPAN + 120_000)
    t.same(first.settled(SPAN + 120_000), [[1_060, 1_000, 1_080, SPAN + 1]])
    first.send(5, SPAN + 130_000)
    t.same(first.settled(SPAN + 130_000), [[1_065, 1_000, 1_085, SPAN + 1]])

    // Five were told and not counted yet, and ten more were made while nobody listened.
    const second = begin({ packets: 1_095, told: 0 })
    for (const incident of first.detector.open()) second.detector.resume(incident)
    second.counted(10, 1_095, SPAN + 180_000)
    second.detector.catchUp(START + SPAN + 180_500)
    t.same(second.settled(SPAN + 181_000), [[1_075, 1_010, 1_095, SPAN + 1]])
    second.send(7, SPAN + 182_000)
    second.counted(7, 1_102, SPAN + 240_000)
    t.same(second.settled(SPAN + 240_000), [[1_082, 1_010, 1_102, SPAN + 1]])
  },
)

t.test('users of this machine who may send, each against their own past', async (t) => {
  const HOST = '192.0.2.5'
  const [POSTFIX, SHOP] = [101, 1_001]
  const day = 86_400_000
  const begin = () => {
    const { detector, attempt } = setUp()
    const by = (uid: number | null, i: number, time: number) => {
      const sent = { policy: null, verdict: 'allow', because: 'relay' } as const
      return detector.observe({ ...attempt(HOST, `198.${18 + (i >> 8)}.${i % 256}.1`, time), ...sent, uid })
    }
    let packets = 0
    const counted = (attempts: number, time: number) => {
      packets += attempts
      const machine = parseAddress(HOST) as Prefix
      const count = { attempts, packets, time: START + time }
      const found = detector.counted([{ machine, allowed: true, policy: null, verdict: 'allow', ...count }])
      // What is not told by now is lost.
      return [...found, ...detector.tick(START + time + 5_000)]
    }
    return { detector, by, counted }
  }
  /** Nine days of which all was told. */
  const custom = ({ by, counted }: ReturnType<typeof begin>, uids: readonly number[]) => {
    const found: IncidentEvent[] = []
    for (let hour = 0; hour < 24 * 9; hour++) {
      for (let i = 0; i < 60; i++)
        for (const uid of uids) found.push(...by(uid, i % 30, hour * 3_600_000 + i * 1_000))
      found.push(...counted(60 * uids.length, hour * 3_600_000 + 60_000))
    }
    return found
  }
  const users = (detector: Detector) => detector.open().map(({ source, user }) => [source, user?.uid ?? null])

  t.test('one who was broken into is named, and the others are not', async (t) => {
    const first = begin()
    t.same(custom(first, [POSTFIX, SHOP]), [])
    const events: IncidentEvent[] = []
    for (let i = 0; i < 3_000; i++) {
      events.push(...first.by(SHOP, i, 9 * day + 600_000 + i * 100))
      if (i < 30) events.push(...first.by(POSTFIX, i, 9 * day + 600_000 + i * 100))
    }
    t.match(events[0], { event: 'opened', incident: { kind: 'exempt-host-anomaly', user: { uid: SHOP } } })
    t.same(
      first.counted(9_030, 9 * day + 660_000),
      [],
      'what is lost of one who is known is no second incident',
    )
    t.same(users(first.detector), [[HOST, SHOP]])
    t.match(
      first.detector.baselines().map(({ source, uid }) => [source, uid]),
      [
        [HOST, POSTFIX],
        [HOST, SHOP],
        [HOST, null],
      ],
    )

    const second = begin()
    second.detector.know(first.detector.baselines())
    for (const incident of first.detector.open()) second.detector.resume(incident)
    const late = Array.from({ length: 150 }, (_, i) => second.by(POSTFIX, i % 30, 9 * day + 1_300_000 + i))
    t.same(late.flat(), [], 'known after a restart')
    t.same(users(second.detector), [[HOST, SHOP]])
  })

  t.test('what was counted and not told is the only user’s', async (t) => {
    const one = begin()
    t.same(custom(one, [POSTFIX]), [])
    one.by(POSTFIX, 1, 9 * day + 600_000)
    t.match(one.counted(5_000, 9 * day + 660_000), [
      { event: 'opened', incident: { user: { uid: POSTFIX } } },
    ])
    const two = begin()
    t.same(custom(two, [POSTFIX, SHOP]), [])
    two.by(POSTFIX, 1, 9 * day + 600_000)
    two.by(SHOP, 1, 9 * day + 600_000)
    t.same(two.counted(2, 9 * day + 601_000), [])
    // Of the address itself nothing is known yet.
    t.same(two.counted(5_000, 9 * day + 660_000), [])
    t.match(two.counted(50_000, 25 * day), [{ event: 'opened', incident: { user: null } }])
  })
})

t.test('a flood from forged addresses is one incident, and who stands out of it another', async (t) => {
  const { see, detector } = setUp()
  const events = Array.from({ length: 100_000 }, (_, i) => [
    ...see(`100.${64 + ((i * 7) % 64)}.${(i * 13) % 256}.${(i * 31) % 251}`, '203.0.113.9', i),
    ...(i % 100 === 0 ? see('100.64.9.9', `198.51.${i % 253}.25`, i) : []),
  ]).flat()
  t.same(
    [...new Set(events.map(({ incident }) => `${incident.kind} ${incident.source}`))],
    ['flood policy:p', 'spam-bot 100.64.9.9'],
  )
  t.match(
    detector.open().find(({ kind }) => kind === 'flood'),
    { confidence: 'definite', interfaces: [], evidence: { rule: 'spoofed-sources' } },
  )
  t.ok(detector.watched < 40_000, String(detector.watched))
  t.equal(detector.tick(START + 100_000 + 3_600_000).length, 2)
})

t.test('in a flood it is the count by which a machine stands out, where only a sample is told', async (t) => {
  const { spamBot } = DEFAULT_THRESHOLDS
  const strict = { ...DEFAULT_THRESHOLDS, spamBot: { ...spamBot, connections: 30 } }
  const { see, detector, attempt } = setUp(undefined, strict)
  for (let i = 0; i < 10_000; i++)
    see(`100.${64 + ((i * 7) % 64)}.${(i * 13) % 256}.${(i * 31) % 251}`, '203.0.113.9', i)
  for (let i = 0; i < 20; i++) see('100.64.9.9', `198.51.100.${i}`, 10_000 + i)
  const { source: machine } = attempt('100.64.9.9', '203.0.113.1', 0)
  const count = { machine, allowed: false, policy: 'p', verdict: 'block', time: START + 11_000 } as const
  let packets = 0
  const many = (attempts: number) => {
    packets += attempts
    return detector.counted([{ ...count, attempts, packets }])
  }
  t.same(many(25), [], 'no more than others may have')
  t.match(many(100), [{ incident: { source: '100.64.9.9', kind: 'spam-bot', evidence: { rule: 'count' } } }])
})

t.test('users of a shared host', async (t) => {
  const HOST = '192.0.2.5'
  const begin = () => {
    let ids = 0
    const names = new Map<number, string>()
    const { attempt } = setUp()
    const detector = new Detector({
      thresholds: () => DEFAULT_THRESHOLDS,
      newId: () => `i${++ids}`,
      local: {
        nameOf: (uid) => names.get(uid) ?? null,
        processOf: (uid) => (uid === 1_001 ? { name: 'bot', path: '/tmp/bot' } : null),
      },
    })
    const by = (uid: number | null, i: number, time: number) =>
      detector.observe({ ...attempt(HOST, `203.0.113.${i}`, time), uid })
    let packets = 0
    const counted = (attempts: number, time: number) => {
      packets += attempts
      const machine = parseAddress(HOST) as Prefix
      const count = { attempts, packets, time: START + time }
      return detector.counted([{ machine, allowed: false, policy: 'p', verdict: 'block', ...count }])
    }
    return { detector, by, counted, names }
  }
  const subjects = (detector: Detector) =>
    detector
      .open()
      .map(({ source, user, kind, attempts, lost }) => [source, user?.uid ?? null, kind, attempts, lost])

  t.test('each is judged apart, and what is counted of the address is nobody’s loss', async (t) => {
    const { detector, by, counted, names } = begin()
    const events = Array.from({ length: 40 }, (_, i) => [
      ...by(1_001, i, i),
      ...(i < 9 ? by(1_002, i, i) : []),
    ])
    t.match(events.flat(), [
      {
        event: 'opened',
        incident: { source: HOST, user: { uid: 1_001, name: null }, process: { name: 'bot' } },
      },
    ])
    t.same(counted(49, 1_000), [])
    detector.tick(START + 10_000)
    t.same(subjects(detector), [[HOST, 1_001, 'spam-bot', 40, 0]])
    names.set(1_001, 'alice')
    t.match(detector.open(), [{ user: { uid: 1_001, name: 'alice' } }], 'the name comes late')
    names.clear()
    for (let i = 0; i < 40; i++) by(1_002, i, 11_000 + i)
    for (let i = 0; i < 40; i++) by(null, i, 12_000 + i)
    t.same(subjects(detector), [
      [HOST, 1_001, 'spam-bot', 40, 0],
      [HOST, 1_002, 'spam-bot', 49, 0],
      [HOST, null, 'spam-bot', 40, 0],
    ])
    t.equal(detector.openOf(HOST).length, 3)
  })

  t.test('what was counted and not told is the only user’s', async (t) => {
    const { detector, by, counted } = begin()
    for (let i = 0; i < 40; i++) by(1_001, i, i)
    t.match(counted(5_000, 1_000), [{ event: 'updated', incident: { user: { uid: 1_001 } } }])
    t.same(subjects(detector), [[HOST, 1_001, 'spam-bot', 5_000, 4_960]])
    t.match(detector.resolve('i1', START + 11_000), { incident: { user: { uid: 1_001 } } })
    t.match(counted(5_000, 12_000), [
      { event: 'opened', incident: { id: 'i1', user: { uid: 1_001 }, evidence: { rule: 'count' } } },
    ])
    t.same(subjects(detector), [[HOST, 1_001, 'spam-bot', 10_000, 9_960]])
  })

  t.test('of several users nobody can say whose it is', async (t) => {
    const { detector, by, counted } = begin()
    for (let i = 0; i < 40; i++) by(1_001, i, i)
    by(1_002, 1, 100)
    t.same(counted(5_000, 1_000), [], 'while one is known to be a bot, that is no second incident')
    detector.tick(START + 10_000)
    t.same(subjects(detector), [[HOST, 1_001, 'spam-bot', 40, 0]])
    t.match(detector.resolve('i1', START + 11_000), { incident: { user: { uid: 1_001 } } })
    t.match(counted(5_000, 12_000), [
      { event: 'opened', incident: { user: null, process: null, evidence: { rule: 'count' } } },
    ])
    // And when that is closed, only what comes then counts.
    detector.tick(START + 20_000)
    t.ok(detector.resolve('i2', START + 21_000))
    t.same(counted(20, 22_000), [])
    by(1_002, 1, 23_000)
    t.same(subjects(detector), [])
  })

  t.test('after a restart, and when they come back, it is the same story', async (t) => {
    const first = begin()
    for (let i = 0; i < 40; i++) first.by(1_001, i, i)
    first.names.set(1_001, 'alice')
    const [left] = first.detector.open()
    const { detector, by, counted } = begin()
    if (left !== undefined) detector.resume(left)
    t.match(detector.open(), [{ id: 'i1', user: { uid: 1_001, name: 'alice' }, attempts: 40 }])
    for (let i = 0; i < 40; i++) t.same(by(1_001, i, 60_000 + i), [], 'no second incident')
    t.match(counted(5_000, 61_000), [{ event: 'updated' }])
    t.same(subjects(detector), [[HOST, 1_001, 'spam-bot', 5_040, 4_960]])
    detector.resolve('i1', START + 62_000)
    const other = Array.from({ length: 40 }, (_, i) => by(1_003, i, 70_000 + i)).flat()
    t.match(
      other,
      [{ event: 'opened', incident: { user: { uid: 1_003 }, reopened: 0 } }],
      'not of another user',
    )
    const again = Array.from({ length: 40 }, (_, i) => by(1_001, i, 80_000 + i)).flat()
    t.match(again, [{ event: 'opened', incident: { id: 'i1', user: { uid: 1_001 }, reopened: 1 } }])
  })

  t.test('a flood of forwarded packets hides none of them', async (t) => {
    const { detector, by } = begin()
    const { attempt } = setUp()
    for (let i = 0; i < 10_000; i++)
      detector.observe(
        attempt(`100.${64 + ((i * 7) % 64)}.${(i * 13) % 256}.${(i * 31) % 251}`, '203.0.113.9', i),
      )
    t.match(detector.open(), [{ kind: 'flood' }])
    for (let i = 0; i < 10; i++) for (let n = 0; n < 3; n++) by(1_001, i, 10_000 + i)
    t.ok(detector.open().some(({ user }) => user?.uid === 1_001))
  })
})

t.test('what the kernel counted and nobody told is lost, and in the incident', async (t) => {
  const { see, detector, attempt } = setUp()
  for (let i = 0; i < 40; i++) see('100.64.1.2', `203.0.113.${i}`, i)
  const { source: machine } = attempt('100.64.1.2', '203.0.113.1', 0)
  const count = { machine, allowed: false, policy: 'p', verdict: 'block', time: START + 1_000 } as const
  detector.counted([{ ...count, attempts: 140, packets: 140 }])
  t.match(detector.open(), [{ attempts: 40, lost: 0 }], 'it may be under way')
  detector.tick(START + 10_000)
  t.match(detector.open(), [{ attempts: 140, lost: 100 }])
  t.match(detector.takeGrown(10), [{ attempts: 140 }])
  t.same(detector.takeGrown(10), [])
  const other = { ...count, machine: { ...machine, address: 5 } as Prefix, attempts: 5_000, packets: 5_000 }
  t.match(detector.counted([other]), [
    {
      event: 'opened',
      incident: { kind: 'spam-bot', attempts: 5_000, lost: 5_000, evidence: { rule: 'count' } },
    },
  ])
})

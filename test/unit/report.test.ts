/** What looks like a mail server, and what like a bot: labelled machines, and the documents that come of it. */
import t from 'tap'
import { GROUP_OF, observed, sortObserved } from '../../scripts/corpus-parts/sorted.ts'
import { parseConfig } from '../../src/config/config.ts'
import { parseYaml } from '../../src/policy/yaml-source.ts'
import type { SenderEvidence, SenderGroup } from '../../src/report/evidence.ts'
import { exemptionFiles } from '../../src/report/exemption-documents.ts'
import { evidenceBody } from '../../src/report/report-body.ts'
import { rhythmOf } from '../../src/report/rhythm.ts'
import { isGeneric, sortSender } from '../../src/report/sort-sender.ts'
import { openDatabase } from '../../src/store/database.ts'
import { EvidenceStore } from '../../src/store/evidence.ts'

t.test('the corpus, in the half that was not tuned on', async (t) => {
  const start = Date.UTC(2026, 8, 7)
  const all = [...observed({ seed: 7, half: 'report', hosts: 3, start })]
  for (const withNames of [true, false]) {
    const { classes, groups } = sortObserved(all, withNames)
    for (const { group, precision, recall } of groups) {
      if (group === 'cannot-tell') continue
      t.ok((precision ?? 0) >= 0.9, `${group}: precision ${precision}`)
      t.ok((recall ?? 0) >= 0.75, `${group}: recall ${recall}`)
    }
    // The worst mistake is an exemption for a bot.
    for (const [label, counts] of classes) {
      if (GROUP_OF[label] !== 'mail-server') t.equal(counts.get('mail-server') ?? 0, 0, label)
    }
  }
})

/** A company's mail server; each rule is about what differs from it. */
const SERVER: SenderEvidence = {
  attempts: 1_000,
  destinations: 80,
  topShare: 0.1,
  triesPerServer: 9,
  destinationsInMinute: 3,
  activeHours: 200,
  busiestHour: 12,
  recurrence: 0.9,
  spanHours: 336,
  closed: 950,
  segments: 9_500,
  payload: 9_500_000,
  received: { segments: 8_000, payload: 6_000_000 },
  name: { ptr: 'mail.acme.example', confirmed: true },
  incidents: [],
}
const NOTHING = { segments: 0, payload: 0 }
/** What scanners say to an open port: many short words. */
const PROBES = { segments: 600, payload: 15_000 }
const POOL = { ptr: 'node-7.pool.example.net', confirmed: true }
const TOO_SHORT = { segments: 1_900, payload: 90_000 }

t.test('rule by rule', async (t) => {
  const cases: readonly [string, Partial<SenderEvidence>, SenderGroup][] = [
    ['a mail server', {}, 'mail-server'],
    ['that receives, without a name', { name: { ptr: null, confirmed: false } }, 'mail-server'],
    ['that receives, since an hour', { recurrence: 0 }, 'mail-server'],
    ['that has a name, and receives elsewhere', { received: NOTHING }, 'mail-server'],
    ['a name alone, since an hour', { received: NOTHING, recurrence: 0 }, 'cannot-tell'],
    [
      'a name that leads elsewhere',
      { received: NOTHING, name: { ...POOL, ptr: 'a.b', confirmed: false } },
      'cannot-tell',
    ],
    ['neither', { received: NOTHING, name: POOL }, 'cannot-tell'],
    ['neither, without a resolver', { received: NOTHING, name: null }, 'cannot-tell'],
    ['scanners are no mail', { received: PROBES, name: POOL }, 'cannot-tell'],
    ['a name, and an incident', { received: NOTHING, incidents: ['spam-bot'] }, 'cannot-tell'],
    ['a newsletter', { incidents: ['spam-bot'], destinationsInMinute: 64, busiestHour: 900 }, 'mail-server'],
    ['since yesterday', { incidents: ['spam-bot'], recurrence: 0.1 }, 'cannot-tell'],
    ['to an old list', { incidents: ['spam-bot'], closed: 800 }, 'cannot-tell'],
    ['a mail server too short to carry mail', TOO_SHORT, 'cannot-tell'],
    ['and hardly answered', { closed: 300 }, 'cannot-tell'],
    ['and to ever new servers', { triesPerServer: 1.2 }, 'cannot-tell'],
    ['a bot', { received: NOTHING, name: POOL, closed: 300, incidents: ['spam-bot'] }, 'bot'],
    ['a bot with a name', { received: NOTHING, closed: 300, incidents: ['spam-bot'] }, 'bot'],
    ['that is refused', { received: NOTHING, name: POOL, ...TOO_SHORT, busiestHour: 700 }, 'bot'],
    ['one sign is not enough', { received: NOTHING, name: POOL, closed: 300 }, 'cannot-tell'],
    [
      'nearly all answer',
      { received: NOTHING, name: POOL, incidents: ['spam-bot'], busiestHour: 700 },
      'cannot-tell',
    ],
    ['a client', { received: NOTHING, destinations: 2, triesPerServer: 500 }, 'misconfigured-client'],
    [
      'that nobody answers',
      { received: NOTHING, destinations: 1, triesPerServer: 50, closed: 0, ...NOTHING },
      'misconfigured-client',
    ],
    [
      'that only looks',
      { received: NOTHING, destinations: 2, triesPerServer: 500, ...TOO_SHORT },
      'cannot-tell',
    ],
    [
      'that hammers',
      {
        received: NOTHING,
        name: POOL,
        destinations: 2,
        triesPerServer: 500,
        closed: 800,
        incidents: ['spam-bot'],
        busiestHour: 900,
      },
      'bot',
    ],
    ['somebody who tried', { attempts: 4, closed: 4, destinations: 1 }, 'cannot-tell'],
  ]
  for (const [what, differs, group] of cases)
    t.equal(sortSender({ ...SERVER, ...differs }).group, group, what)
  t.equal(sortSender(SERVER).confidence, 'definite')
  t.equal(sortSender({ ...SERVER, received: NOTHING }).confidence, 'likely')
})

t.test('the rhythm of a machine', async (t) => {
  const hour = (day: number, at: number, attempts: number) => ({
    time: (day * 24 + at) * 3_600_000,
    attempts,
  })
  t.same(rhythmOf([]), { activeHours: 0, busiestHour: 0, recurrence: 0 })
  t.same(rhythmOf([hour(0, 3, 5), hour(0, 4, 0)]), { activeHours: 1, busiestHour: 5, recurrence: 0 })
  // Days count from the first attempt: the half of four days is two.
  t.same(rhythmOf([hour(0, 3, 10), hour(0, 20, 10), hour(1, 5, 0), hour(2, 5, 40), hour(3, 4, 1)]), {
    activeHours: 4,
    busiestHour: 40,
    recurrence: 0.5,
  })
  t.same(rhythmOf([hour(3, 4, 30), hour(0, 3, 3)]).recurrence, 0.1)
})

t.test('names of pools', async (t) => {
  for (const name of [
    '100-64-7-7.pool.example.net',
    'dhcp12.example.net',
    'cust.example',
    'kd100064007007.example',
    'p64400707.dip0.example',
  ]) {
    t.ok(isGeneric({ ptr: name }), name)
  }
  for (const name of ['mail.acme.example', 'mx1.example.org', 'smtp-out-2.example.com'])
    t.notOk(isGeneric({ ptr: name }), name)
})

t.test('exemptions for mail servers alone, sound and reviewed by somebody', async (t) => {
  const bot = { ...SERVER, received: NOTHING, closed: 300, incidents: ['spam-bot'] }
  const items = [SERVER, bot, SERVER, { ...SERVER, attempts: 3 }].map((evidence, index) => ({
    source: index < 2 ? `100.64.7.${index}` : `2001:db8:${index}::/64`,
    policy: 'trial',
    ...sortSender(evidence),
    subscriber: {
      name: 'acme',
      account: 'a: "b" # c',
      contact: null,
      mac: null,
      port: null,
      source: 'csv',
      since: null,
    },
    evidence: evidenceBody(evidence, 0, 1_000),
  }))
  const files = exemptionFiles(items, '2026-11-26T12:00:00.000Z')
  t.equal(files.length, 2)
  for (const { name, path, text } of files) {
    t.match(name, /^[a-z0-9][a-z0-9-]{0,47}$/)
    t.equal(path, `${name}.yaml`)
    const { documents, diagnostics } = parseYaml(path, text)
    t.same(diagnostics, [])
    t.match(documents[0]?.value, { kind: 'exemption', name, sources: [String], owner: 'a: "b" # c' })
  }
})

t.test('counters that grow, begin afresh and are forgotten', async (t) => {
  const database = openDatabase(':memory:')
  t.teardown(() => database.close())
  const store = new EvidenceStore(database)
  const reading = (packets: number, bytes: number) => [
    { set: 'sent4', address: '100.64.1.1', what: 'sent', source: '100.64.1.1', packets, bytes },
  ]
  const now = 20_000 * 86_400_000
  store.take(reading(10, 1_000), now, 100)
  store.take(reading(10, 1_000), now, 100)
  store.take(reading(15, 1_500), now + 86_400_000, 100)
  store.take(reading(2, 200), now + 86_400_000, 100)
  t.same(store.of('100.64.1.1', now), new Map([['sent', { packets: 17, bytes: 1_700 }]]))
  t.same(store.of('100.64.1.1', now + 86_400_000), new Map([['sent', { packets: 7, bytes: 700 }]]))
  store.prune(now + 86_400_000, now)
  t.same(store.of('100.64.1.1', now), new Map([['sent', { packets: 7, bytes: 700 }]]))
})

t.test('the configuration', async (t) => {
  const read = (value: string) => parseConfig('c.yaml', `report: { resolver: "${value}" }`).report.resolver
  t.same(['127.0.0.1', '127.0.0.1:5353', '::1', '[::1]:5353'].map(read), [
    '127.0.0.1',
    '127.0.0.1:5353',
    '::1',
    '[::1]:5353',
  ])
  for (const bad of ['localhost', '127.0.0.1:0', '127.0.0.1:99999', '1.2.3', '[::1'])
    t.throws(() => read(bad), bad)
})

/** What looks like a mail server, and what like a bot: labelled machines, and the documents that come of it. */
import t from 'tap'
import { parseConfig } from '../../src/config.ts'
import { parseYaml } from '../../src/policy/yaml-source.ts'
import { exemptionFiles } from '../../src/report/exemption-documents.ts'
import { evidenceBody } from '../../src/report/report-body.ts'
import { isGeneric, sortSender } from '../../src/report/sort-sender.ts'
import { openDatabase } from '../../src/store/database.ts'
import { EvidenceStore } from '../../src/store/evidence.ts'
import { labelledSenders } from '../report/cases.ts'

t.test('labelled machines that were not tuned on', async (t) => {
  for (const names of [true, false]) {
    const sorted = labelledSenders(7, 300).map(({ evidence, ...rest }) => ({
      ...rest,
      group: sortSender(names ? evidence : { ...evidence, name: null }).group,
    }))
    for (const group of ['mail-server', 'bot', 'misconfigured-client'] as const) {
      const said = sorted.filter((one) => one.group === group)
      const right = said.filter((one) => one.label === group).length
      const are = sorted.filter((one) => one.label === group).length
      t.ok(right / said.length >= 0.97, `${group}: of ${said.length} said to be, ${right} are`)
      t.ok(right / are >= 0.75, `${group}: of ${are}, ${right} were found`)
    }
    // The worst mistake is an exemption for a bot.
    const exempted = sorted.filter((one) => one.group === 'mail-server' && one.label !== 'mail-server')
    t.same(exempted, [])
  }
})

t.test('names of pools', async (t) => {
  for (const name of ['100-64-7-7.pool.example.net', 'dhcp12.example.net', 'cust.example']) {
    t.ok(isGeneric({ ptr: name }), name)
  }
  for (const name of ['mail.acme.example', 'mx1.example.org', 'smtp-out-2.example.com'])
    t.notOk(isGeneric({ ptr: name }), name)
})

t.test('exemptions for mail servers alone, sound and reviewed by somebody', async (t) => {
  const items = labelledSenders(3, 1).map(({ evidence, model }, index) => ({
    source: index % 2 === 0 ? `100.64.7.${index}` : `2001:db8:${index}::/64`,
    policy: 'trial',
    ...sortSender(evidence),
    subscriber: {
      name: model,
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
  t.equal(files.length, items.filter(({ group }) => group === 'mail-server').length)
  t.ok(files.length >= 2)
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

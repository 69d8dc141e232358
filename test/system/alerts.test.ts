/**
 * Many incidents through every type of channel at once, to real receivers that are away at first, with a restart of the
 * service in between: each event arrives once by its key, and who is away keeps nobody else waiting.
 */
import { readFileSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { incident, openAlerts, receiver } from '../unit/alert-support.ts'
import { eventually, startAlertmanager, startPostfix, startRsyslog } from './counterparts.ts'
import { gateway, until } from './gateway.ts'

/** 10,000 take some minutes; every other one is resolved as well. */
const INCIDENTS = Number(process.env['EGRESS25_INCIDENTS'] ?? 60)
const PATIENCE = 60_000 + 100 * INCIDENTS
/** Mails by what names them: what came twice is there once. */
const byId = (mails: readonly string[]) =>
  new Map(mails.map((mail) => [/^Message-ID: (.*)$/im.exec(mail)?.[1], mail]))
interface Known {
  readonly id: string
}

const DEAD = ['prometheus', 'logs', 'mail', 'abuse']

t.test('each event once, through every type of channel', { timeout: 2 * PATIENCE }, async (t) => {
  const [relay, logs, prometheus] = await Promise.all([
    startPostfix(t),
    startRsyslog(t),
    startAlertmanager(t),
  ])
  const { folder } = relay
  const counterparts = [relay, logs, prometheus]
  await Promise.all(counterparts.map((one) => one.kill()))
  const hook = await receiver(t, (_, response) => response.writeHead(204).end())
  const password = join(folder, 'password')
  await writeFile(password, relay.login.password)
  const ran = join(folder, 'ran')
  await mkdir(ran)
  await chmod(ran, 0o777)
  const script = join(folder, 'script')
  // Idempotent: the second time, the file is there.
  await writeFile(script, `#!/bin/sh\n: >"${ran}/$(printf %s "$EGRESS25_KEY" | tr / _)"\n`, { mode: 0o755 })
  const mail = {
    ...{ host: '127.0.0.1', port: relay.ports.submission, from: 'egress25@example.net' },
    ...{ username: relay.login.username, password_file: password, ca_file: join(folder, 'cert.pem') },
  }
  const config = {
    alerts: [
      { name: 'hook', type: 'webhook', url: hook.url },
      { name: 'prometheus', type: 'alertmanager', url: prometheus.url },
      { name: 'logs', type: 'syslog', host: '127.0.0.1', transport: 'tcp', port: logs.ports.tcp },
      { name: 'mail', type: 'email', to: ['noc@example.org'], ...mail },
      { name: 'abuse', type: 'abuse-report', organisation: 'Example Net', ...mail },
      { name: 'script', type: 'exec', command: [script], timeout: '1m' },
    ].map((one) => ({ ...one, limit: 'none' })),
  }
  const subscriberOf = (id: string) => ({
    ...{ name: null, account: id, contact: `anna+${id}@example.net`, mac: null, port: null },
    ...{ source: 'csv', since: null },
  })
  const state = join(folder, 'state')
  await mkdir(state)
  const expected = { all: new Set<string>(), opened: new Set<string>(), open: new Set<string>() }
  const events = Array.from({ length: INCIDENTS }, (_, number) => {
    const id = `incident-${number}`
    const time = Date.now()
    const source = `100.64.${number >> 8}.${number & 255}`
    const opened = { event: 'opened' as const, time, incident: incident(id, { source, lastSeen: time }) }
    expected.all.add(`${id}/opened/${time}`)
    expected.opened.add(`${id}/opened/${time}`)
    if (number % 2 === 0) {
      expected.open.add(id)
      return [opened]
    }
    expected.all.add(`${id}/resolved/${time}`)
    const resolved = { ...opened.incident, state: 'resolved' as const }
    return [opened, { event: 'resolved' as const, time, incident: resolved }]
  }).flat()

  const first = await openAlerts(state, config, { subscriberOf })
  first.tell(...events.slice(0, events.length / 2))
  await eventually('some have arrived', () => hook.received.length > 0)
  await first.close()
  const second = await openAlerts(state, config, { subscriberOf })
  second.tell(...events.slice(events.length / 2))
  const hooked = () => new Set(hook.received.map(({ headers }) => String(headers['idempotency-key'])))
  await eventually('all at the receiver that is there', () => hooked().size === expected.all.size, PATIENCE)
  await eventually('failures of the others', () =>
    DEAD.every((name) => second.log.some((line) => line.startsWith(`${name} failed`))),
  )
  t.notOk(second.log.some((line) => DEAD.some((name) => line === `${name} sent`)))
  await second.close()
  await Promise.all(counterparts.map((one) => one.restart()))
  const third = await openAlerts(state, config, { subscriberOf })
  t.teardown(third.close)
  await eventually(
    'nothing waits',
    () => third.alerts.status().every(({ queued, waiting }) => queued + waiting === 0),
    PATIENCE,
  )

  t.same(
    third.alerts.status().filter(({ dead }) => dead > 0),
    [],
  )
  t.same(hooked(), expected.all)
  t.same(new Set(await readdir(ran)), new Set([...expected.all].map((key) => key.replaceAll('/', '_'))))
  const active = (await (await fetch(`${prometheus.url}/api/v2/alerts`)).json()) as {
    labels: { incident: string }
  }[]
  t.same(new Set(active.map(({ labels }) => labels.incident)), expected.open)
  const logged = await eventually(
    'all in the log',
    async () => {
      const lines = (await readFile(logs.messages, 'utf8')).trim().split('\n')
      const keys = lines.map((line) => JSON.parse(JSON.parse(line).data)['egress25@32473'].key as string)
      return new Set(keys).size >= expected.all.size ? keys : null
    },
    PATIENCE,
  )
  t.same(new Set(logged), expected.all)

  const mails = await eventually(
    'all mails',
    async () => {
      const names = await readdir(relay.maildir)
      if (names.length < expected.all.size + expected.opened.size) return null
      // One by one: there are more of them than files that may be open.
      const found = names.map((name) => readFileSync(join(relay.maildir, name), 'utf8'))
      return byId(found).size >= expected.all.size + expected.opened.size ? found : null
    },
    PATIENCE,
  )
  const isReport = (text: string) => /^Delivered-To: anna\+/im.test(text)
  const reports = byId(mails.filter(isReport))
  t.equal(reports.size, expected.opened.size)
  t.same(
    new Set([...reports.values()].map((text) => /^Delivered-To: anna\+(.*)@/im.exec(text)?.[1])),
    new Set([...expected.opened].map((key) => key.split('/')[0])),
    'each subscriber has a report of its own',
  )
  t.equal(byId(mails.filter((text) => !isReport(text))).size, expected.all.size)
})

t.test('the service is killed again and again: every incident is told, and by one key', async (t) => {
  const g = await gateway(t)
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  config.alerts[0].limit = 'none'
  await writeFile(g.config, JSON.stringify(config))
  let service = await g.start()
  for (let round = 0; round < 4; round++) {
    const bots = [1, 2, 3].map((n) => `100.64.${round}.${n}`)
    const attempts = bots.flatMap((from) =>
      Array.from({ length: 40 }, (_, i) => ({ from, to: `198.51.100.${i + 1}`, port: 25 })),
    )
    await g.client.connectAll(attempts)
    // Before the first is written, while some are under way, or after all have arrived.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 300))
    await g.stop(service, 'SIGKILL')
    service = await g.start()
  }
  const bodies = () => g.deliveries.map(({ body }) => JSON.parse(body) as { event: string; incident: Known })
  const incidents = async () => (await g.get('/v1/incidents?limit=100'))['items'] as Known[]
  const found = await until('every incident at the receiver', async () => {
    const all = await incidents()
    const told = new Set(bodies().flatMap(({ event, incident }) => (event === 'opened' ? [incident.id] : [])))
    return all.length > 0 && all.every(({ id }) => told.has(id)) && all
  })
  t.comment(`${found.length} incidents, ${g.deliveries.length} deliveries`)
  const keys = new Map<string, Set<string>>()
  for (const { key, body } of g.deliveries) {
    const { event, incident } = JSON.parse(body)
    if (event !== 'opened') continue
    keys.set(incident.id, (keys.get(incident.id) ?? new Set()).add(key))
  }
  t.same(
    [...keys.values()].filter(({ size }) => size !== 1),
    [],
    'twice, if at all, by the same key',
  )
  t.equal(await g.stop(service), 0)
})

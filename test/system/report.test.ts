/** Before enforcing: real mail and other traffic through a gateway that observes, and what the report makes of it. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { makeIdentity, openMailHost, sendMail } from '../../scripts/lab/mail.ts'
import type { ReportBody } from '../../src/report/report-body.ts'
import { gateway, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const PATIENCE = 60_000
const SERVER = '100.64.1.25'
const BOT = '100.64.1.66'
const PRINTER = '100.64.1.99'
const POLICY = `kind: policy
name: trial
networks: [100.64.0.0/10]
mode: observe
`

t.test('a gateway that observes tells mail servers from bots', async (t) => {
  const g = await gateway(t, { 'policy.yaml': POLICY }, process.env, [465])
  const config = JSON.parse(await readFile(g.config, 'utf8')) as Record<string, unknown>
  await writeFile(g.config, JSON.stringify({ ...config, report: { resolver: '127.0.0.1:5354' } }))
  g.lab.spawn(
    g.lab.gateway,
    [
      ...[
        'dnsmasq',
        '--keep-in-foreground',
        '--conf-file=/dev/null',
        '--no-resolv',
        '--no-hosts',
        '--pid-file=',
      ],
      ...['--user=root', '--port=5354', '--listen-address=127.0.0.1', '--bind-interfaces'],
      ...[`--host-record=mail.acme.example,${SERVER}`, '--local=/in-addr.arpa/'],
      '--ptr-record=66.1.64.100.in-addr.arpa,100-64-1-66.pool.example.net',
    ],
    { stdio: 'ignore' },
  )
  const identity = await makeIdentity(g.directory)
  const exchanger = [{ service: 'mail exchanger', port: 25 }] as const
  const internet = await openMailHost(g.lab, g.lab.internet, exchanger, identity)
  await openMailHost(g.lab, g.lab.subscribers, exchanger, identity)
  const service = await g.start()

  const body = 'What a person has to say to another.\n'.repeat(50)
  const mail = (namespace: string, from: string, to: string) =>
    sendMail(g.lab, { namespace, from, to, port: 25, subject: `to ${to}`, body, patience: 50 })
  const out = Array.from({ length: 6 }, (_, i) => mail(g.lab.subscribers, SERVER, `203.0.113.${i + 1}`))
  const into = Array.from({ length: 2 }, (_, i) => mail(g.lab.internet, `198.51.100.${i + 1}`, SERVER))
  const scan = Array.from({ length: 5 }, () => mail(g.lab.subscribers, PRINTER, '203.0.113.77'))
  for (const sent of await Promise.all([...out, ...into, ...scan])) t.ok(sent.delivered, sent.answer)
  t.equal((await internet.received()).messages.length, 11)
  const connect = (from: string, times: number, to: (i: number) => string) =>
    g.client.connectAll(
      Array.from({ length: times }, (_, i) => ({ from, to: to(i), port: 25 })),
      10,
    )
  await connect(BOT, 60, (i) => `203.0.113.${i + 1}`)

  const found = await until(
    'all three',
    async () => {
      const report = (await g.get('/v1/report')) as unknown as ReportBody
      const of = (source: string) => report.items.find((item) => item.source === source)
      const [server, bot, printer] = [of(SERVER), of(BOT), of(PRINTER)]
      if (server === undefined || bot === undefined || printer === undefined) return null
      // The last packet of a connection may still be on its way.
      const isThere =
        server.evidence.closed >= 6 && bot.evidence.attempts >= 60 && bot.evidence.destinations >= 60
      return isThere && printer.evidence.closed >= 5 && { report, server, bot, printer }
    },
    PATIENCE,
  )
  const { report, server, bot, printer } = found
  t.match(report, { policies: ['trial'], resolver: '127.0.0.1:5354', truncated: false })
  t.match(server, { group: 'mail-server', policy: 'trial', evidence: { attempts: 6, destinations: 6 } })
  t.match(server.evidence, { closed: 6, ptr: 'mail.acme.example', name_confirmed: true })
  t.ok(server.evidence.payload > 6 * 300 && server.evidence.segments >= 6 * 4, 'what a message has')
  t.ok(server.evidence.received_payload > 2 * 300, 'and what it received')
  t.match(bot, { group: 'bot', evidence: { segments: 0, received_segments: 0, name_confirmed: false } })
  t.match(printer, { group: 'misconfigured-client', evidence: { attempts: 5, destinations: 1 } })

  await t.test('the command, and exemptions to review', async (t) => {
    const { stdout, code } = await g.egress25('report')
    t.equal(code, 0)
    t.match(stdout, /1 looks like a mail server.*100\.64\.1\.25.*receives mail/s)
    t.match(stdout, /1 looks like a bot.*100\.64\.1\.66/s)
    const policies = join(g.directory, 'policies')
    const folder = join(policies, 'exemptions')
    await mkdir(folder)
    t.equal((await g.egress25('report', '--exemptions', folder)).code, 0)
    t.same(await readdir(folder), ['mail-server-100-64-1-25.yaml'])
    t.match(await readFile(join(folder, 'mail-server-100-64-1-25.yaml'), 'utf8'), /^# Proposed by/)
    t.match((await g.egress25('check', policies)).stdout, /^ok: 1 policy, 0 relays, 1 exemption, /)
    const again = await g.egress25('report', '--exemptions', folder)
    t.match(again.stderr, /is there already, and stays as it is/)
  })

  await t.test('what was seen outlives an apply and a restart', async (t) => {
    t.equal((await g.egress25('apply')).code, 0)
    t.equal(await g.stop(service), 0)
    const next = await g.start()
    const after = (await g.get('/v1/report')) as unknown as ReportBody
    t.match(
      after.items.find((item) => item.source === SERVER),
      { group: 'mail-server', evidence: { closed: 6, payload: server.evidence.payload } },
    )
    t.equal(await g.stop(next), 0)
  })
})

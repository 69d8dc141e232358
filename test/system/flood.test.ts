/** Judgement on real packets: a flood from forged addresses, a real offender in it, and an exempt host that fans out. */
import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import { openFlood, syn4 } from '../golden/flood.ts'
import { type Gateway, gateway, POLICIES, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const FLOOD = 20_000
/** Sources that the kernel tracks: fewer than the flood has. */
const TRACKED = 2_000
const EXEMPT = '100.64.12.7'
const BOT = '100.64.3.3'

interface Incident {
  readonly kind: string
  readonly source: string
  readonly attempts: number
  readonly lost: number
  readonly interfaces: readonly string[]
  readonly hardware_addresses: readonly string[]
  readonly evidence: { readonly rule: string; readonly sources: number }
}

interface Status {
  readonly attempts: { readonly total: number }
  readonly events: { readonly listening: boolean; readonly received: number; readonly lost: number }
}

/** The process that reads the log socket for a service. */
function tcpdumpOf(service: number | undefined): number {
  const ps = execFileSync('ps', ['-o', 'pid=,comm=', '--ppid', String(service)], { encoding: 'utf8' })
  return Number(/^ *(\d+) tcpdump$/m.exec(ps)?.[1])
}

const statusOf = async (g: Gateway) => (await g.get('/v1/status')) as unknown as Status
const open = async (g: Gateway) =>
  ((await g.get('/v1/incidents?state=open&limit=1000')) as unknown as { items: Incident[] }).items
const openOf = (g: Gateway, source: string) =>
  until(`an incident of ${source}`, async () => (await open(g)).find((one) => one.source === source))

t.test('floods and exempt hosts', async (t) => {
  const g = await gateway(t, {
    ...POLICIES,
    'policy.yaml': POLICIES['policy.yaml'].replace(
      'detection:\n',
      `detection:
  flood: { sources: 500, window: 5m }
  exempt_host: { learn: 1s, attempts: 40, destinations: 20 }
`,
    ),
    'exemption.yaml': `kind: exemption\nname: shop\nsources: [${EXEMPT}]\n`,
  })
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  await writeFile(g.config, JSON.stringify({ ...config, firewall: { tracked_sources: TRACKED } }))
  let service = await g.start()
  const flood = openFlood(g.lab)

  const tracked = async () =>
    [...(await g.nft('list', 'set', 'inet', 'egress25', 'sources4')).matchAll(/ counter packets /g)].length
  /** The status once all of so many attempts are told or lost. */
  const accounted = (total: number) =>
    until(`${total} attempts to be told or lost`, async () => {
      const now = await statusOf(g)
      const { received, lost } = now.events
      return now.attempts.total === total && received + lost === total && now
    })

  await t.test('an exempt host that fans out is news, and its connections are counted for it', async (t) => {
    const to = (i: number) => ({ from: EXEMPT, to: `198.51.100.${1 + (i % 250)}`, port: 25 })
    let sent = 0
    const incident = await until('an anomaly', async () => {
      await g.client.connectAll(Array.from({ length: 60 }, () => to(sent++)))
      return (await open(g)).find(({ source }) => source === EXEMPT)
    })
    t.match(incident, { kind: 'exempt-host-anomaly', verdict: 'allow', evidence: { usual: {} } })
    t.match(await g.nft('list', 'set', 'inet', 'egress25', 'senders4'), `${EXEMPT} counter packets ${sent} `)
    t.equal((await statusOf(g)).attempts.total, 0, 'what is allowed is no attempt')
  })

  await t.test(
    'a flood is one incident, nothing of it passes, and every packet is accounted for',
    async (t) => {
      const witness = await flood.witness(t)
      await flood.send(syn4('100, 80, drnd(2)', '203.0.113.9'), FLOOD)
      // Like any bot, it goes on; what is told of its attempts comes through once the flood has been read.
      let sent = 0
      const next = () => {
        const i = sent++
        return { from: BOT, to: `198.51.${100 + (i % 100)}.${1 + ((i >> 1) % 250)}`, port: 25 }
      }
      const bot = await until('the bot', async () => {
        await g.client.connectAll(Array.from({ length: 100 }, next))
        return (await open(g)).find(({ source }) => source === BOT)
      })
      t.match(bot, { kind: 'spam-bot' }, 'who stands out of it is found')
      const found = await openOf(g, 'policy:residential')
      t.match(found, { kind: 'flood', evidence: { rule: 'spoofed-sources' }, interfaces: ['inside0'] })
      t.match(found.hardware_addresses[0], /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/)
      t.same((await open(g)).map(({ source }) => source).sort(), [BOT, EXEMPT, 'policy:residential'].sort())

      const arrived = await witness.inGateway()
      t.equal(arrived['203.0.113.9'], FLOOD)
      t.equal((await witness.onInternet())['203.0.113.9'] ?? 0, 0, 'nothing passed')
      const status = await accounted(FLOOD + sent)
      t.ok(status.events.received > 0, `${status.events.lost} lost`)
      const settled = await until('the incident to say what was lost', async () => {
        const now = await openOf(g, 'policy:residential')
        // What came within the second before it was suspected may be missing: no more than that.
        return now.attempts > FLOOD + sent - 125 && now
      })
      t.equal(settled.lost, status.events.lost)
      t.ok((await tracked()) <= TRACKED, 'the kernel keeps to its bound')
    },
  )

  await t.test('what a stalled or killed reader misses is counted to the packet', async (t) => {
    const before = await statusOf(g)
    const reader = tcpdumpOf(service.pid)
    // The service is stopped as well: what is counted twice before it is told would be taken for lost.
    for (const pid of [service.pid ?? 0, reader]) process.kill(pid, 'SIGSTOP')
    // More than is told at once; what the socket has no room for is lost as well.
    await flood.send(syn4('100, 81, drnd(2)', '203.0.113.9'), 2 * FLOOD)
    for (const pid of [reader, service.pid ?? 0]) process.kill(pid, 'SIGCONT')
    const stalled = await accounted(before.attempts.total + 2 * FLOOD)
    t.ok(stalled.events.received > before.events.received, 'it reads on')

    process.kill(reader, 'SIGSTOP')
    const missed = Array.from({ length: 50 }, (_, i) => ({
      from: '100.64.9.9',
      to: `198.51.100.${1 + i}`,
      port: 25,
    }))
    await g.client.connectAll(missed)
    process.kill(reader, 'SIGKILL')
    const killed = await accounted(stalled.attempts.total + missed.length)
    t.equal(killed.events.lost - stalled.events.lost, missed.length)
    await until('another reader', async () => (await statusOf(g)).events.listening)
    await g.client.connectAll(missed.slice(0, 1))
    const after = await accounted(killed.attempts.total + 1)
    t.ok(after.events.received > killed.events.received, 'and is told again')

    const metrics = await g.ask('GET', '/metrics')
    t.match(metrics.text, new RegExp(`^egress25_events_lost_total ${after.events.lost}$`, 'm'))
    await until('the incident to say so', async () => {
      const found = await openOf(g, 'policy:residential')
      return found.lost === after.events.lost
    })
  })

  await t.test('when a flood has filled the set of sources, it makes room for others', async (t) => {
    const attempts = async (source: string) => (await g.get(`/v1/sources/${source}`))['attempts']
    const late = (from: string, times: number) =>
      g.client.connectAll(Array.from({ length: times }, () => ({ from, to: '203.0.113.9', port: 25 })))
    let tries = 0
    const found = await until('a time in which no room was made', async () => {
      // Room is made as each minute begins, which may be now.
      await flood.send(syn4('100, 82, drnd(2)', '203.0.113.9'), FLOOD)
      const source = `100.64.8.${++tries}`
      const before = await tracked()
      await late(source, 3)
      const none = await attempts(source)
      return before === TRACKED && (await tracked()) === TRACKED && { none }
    })
    t.equal(found.none, 0, 'there is none now')
    // As each minute, the counters are read at the start.
    t.equal(await g.stop(service), 0)
    service = await g.start()
    t.equal(await tracked(), TRACKED / 2)
    await late('100.64.7.7', 5)
    t.equal(await attempts('100.64.7.7'), 5)
  })
  t.equal(await g.stop(service), 0)
})

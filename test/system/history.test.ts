/** What a gateway remembers of attempts: exact by the kernel's count, over kills, full disks and damaged files. */
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Gateway, gateway, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const BOT = '100.64.7.7'
const MX = '203.0.113.9'

interface Point {
  readonly time: string
  readonly attempts: number
  readonly told: number
  readonly allowed: number
}

interface Source {
  readonly attempts: number
  readonly series: { readonly step: string; readonly points: readonly Point[] } | null
}

const sumOf = (points: readonly Point[] = [], what: 'attempts' | 'told' | 'allowed' = 'attempts') =>
  points.reduce((sum, point) => sum + point[what], 0)
const sourceOf = async (g: Gateway, address: string) =>
  (await g.get(`/v1/sources/${address}`)) as unknown as Source & Record<string, unknown>
/** Sum of all attempts by the history, and by the kernel. */
const totals = async (g: Gateway) => {
  const { points } = (await g.get('/v1/attempts/series')) as unknown as { points: Point[] }
  return sumOf(points)
}
/** Connections of one machine to one server, one after the other in lanes. */
const tryOften = (g: Gateway, from: string, times: number, to = MX) =>
  g.client.connectAll(Array.from({ length: times }, () => ({ from, to, port: 25 })))
/** The machine's history, once it says what the kernel says. */
const exactly = (g: Gateway, address: string, attempts: number) =>
  until(`${attempts} attempts of ${address}`, async () => {
    const found = await sourceOf(g, address)
    return found.attempts === attempts && sumOf(found.series?.points) === attempts && found
  })
const lines = async (g: Gateway, text: string) => (await g.log()).split(text).length - 1

/** A disk of a megabyte or so for the state, which fills up easily. */
async function smallDisk(test: Test, g: Gateway, megabytes: number): Promise<string> {
  const path = join(g.directory, 'state')
  await mkdir(path, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'egress25-test', path])
  test.teardown(() => execFileSync('umount', ['-l', path]))
  return path
}

t.test('a history of real packets', async (t) => {
  const g = await gateway(t)
  let service = await g.start()

  await t.test('counts are exact, also where detail is held back', async (t) => {
    t.same(await tryOften(g, '100.64.7.8', 2, '203.0.113.10'), ['reset', 'reset'])
    t.same(await tryOften(g, '2001:db8:100::7', 3, '2001:db8:ffff::9'), ['reset', 'reset', 'reset'])
    t.same(new Set(await tryOften(g, BOT, 700)), new Set(['reset']))
    const bot = await exactly(g, BOT, 700)
    const told = sumOf(bot.series?.points, 'told')
    t.ok(told > 0 && told < 700, `${told} told`)
    t.match(bot, {
      source: BOT,
      policy: 'residential',
      incidents: [{ kind: 'misconfigured-client' }],
      destinations: [],
      series: { step: 'hour' },
    })
    t.same(
      bot['incident_ids'],
      (bot['incidents'] as { id: string }[]).map(({ id }) => id),
    )
    t.equal((bot['recent'] as unknown[]).length, 20)
    t.ok(Date.parse(String(bot['first_seen'])) <= Date.parse(String(bot['last_seen'])))
    await exactly(g, '100.64.7.8', 2)
    t.match(await exactly(g, '2001:db8:100::7', 3), { source: '2001:db8:100::/64' })
    await until('all', async () => (await totals(g)) === 705)
    const policy = (await g.get('/v1/attempts/series?policy=residential&step=minute')) as { points: Point[] }
    t.equal(sumOf(policy.points), 705)
    t.equal(policy.points.length, 1_441)
  })

  await t.test('what relays do is apart', async (t) => {
    const relay = await g.lab.probe(g.lab.relays)
    t.equal(await relay.connect({ from: '192.0.2.25', to: MX, port: 25 }), 'connected')
    await relay.close()
    await until('the relay', async () => {
      const { points } = (await g.get('/v1/attempts/series')) as unknown as { points: Point[] }
      return sumOf(points, 'allowed') === 1 && sumOf(points) === 705
    })
  })

  await t.test('attempts one by one, in pages', async (t) => {
    const list = async (query: string) =>
      (await g.get(`/v1/attempts?${query}`)) as {
        items: { time: string; source: string; destination: string }[]
        next: string | null
      }
    const first = await until('them', async () => {
      const found = await list('source=100.64.7.8&limit=1')
      return found.next !== null && found
    })
    t.match(first.items, [
      {
        source: '100.64.7.8',
        source_port: Number,
        destination: '203.0.113.10',
        policy: 'residential',
        verdict: 'block',
        because: null,
        uid: null,
        mac: /^([0-9a-f]{2}:){5}/,
      },
    ])
    const second = await list(`source=100.64.7.8&limit=1&cursor=${first.next}`)
    t.equal(second.items.length, 1)
    t.not(second.items[0], first.items[0])
    t.equal(second.next, null)
    t.equal((await list('source=2001:db8:100::/48')).items.length, 3)
    t.equal((await list('source=100.64.7.8/31&verdict=block&policy=residential')).items.length, 2)
    t.equal((await list('policy=other')).items.length, 0)
    t.equal((await list(`since=${new Date(Date.now() + 60_000).toISOString()}`)).items.length, 0)
  })

  await t.test('who did the most', async (t) => {
    const { items, next } = (await g.get('/v1/sources?limit=2')) as { items: unknown[]; next: string }
    t.match(items, [
      { source: BOT, policy: 'residential', verdict: 'block', attempts: 700, destinations: 1 },
      { source: '2001:db8:100::/64', attempts: 3, told: 3 },
    ])
    t.match(await g.get(`/v1/sources?limit=2&cursor=${next}`), {
      items: [{ source: '100.64.7.8', attempts: 2 }],
      next: null,
    })
    t.same(((await g.get('/v1/sources?policy=other')) as { items: unknown[] }).items, [])
  })

  await t.test('questions with mistakes', async (t) => {
    for (const path of [
      '/v1/attempts?sorce=100.64.7.7',
      '/v1/attempts?source=100.64.7',
      '/v1/attempts?source=100.64.7.7/8',
      '/v1/attempts?verdict=maybe',
      '/v1/attempts?since=yesterday',
      '/v1/attempts?limit=0',
      '/v1/attempts?cursor=eHg',
      '/v1/attempts/series?step=second',
      '/v1/attempts/series?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z',
      '/v1/attempts/series?from=2020-01-01T00:00:00Z&step=minute',
      '/v1/attempts/series?from=1970-01-01T00:00:00Z',
      '/v1/attempts/series?source=100.64.7.7&policy=residential',
      '/v1/sources?role=any',
      '/v1/sources?cursor=LTE',
      '/v1/sources/100.64.7.7?step=year',
      '/v1/sources/nobody',
    ]) {
      const { status, text, headers } = await g.ask('GET', path)
      t.same([status, JSON.parse(text).code], [400, 'bad-request'], path)
      t.match(headers['content-type'], /^application\/problem\+json/)
    }
  })

  await t.test('killed, and started again: the kernel has counted on', async (t) => {
    await tryOften(g, BOT, 10)
    await g.stop(service, 'SIGKILL')
    await tryOften(g, BOT, 40)
    service = await g.start()
    await exactly(g, BOT, 750)
    await until('all', async () => (await totals(g)) === 755)
    t.equal((await sourceOf(g, '100.64.7.8')).attempts, 2)
    await exactly(g, '100.64.7.8', 2)
  })

  await t.test(
    'killed at any moment: an incident has all that the kernel counted, and nothing twice',
    async (t) => {
      const bot = '100.64.8.1'
      const MOST = 20
      const incident = async () =>
        (
          (await g.get('/v1/incidents?limit=100')) as { items: { source: string; attempts: number }[] }
        ).items.find(({ source }) => source === bot)
      const tryAll = () =>
        g.client.connectAll(
          Array.from({ length: 45 }, (_, i) => ({ from: bot, to: `198.51.100.${i + 1}`, port: 25 })),
        )
      let rounds = 0
      for (; rounds < 6; rounds++) {
        await tryAll()
        await until('an incident', incident)
        // It goes on until the service is back: before, within and after the kill.
        let isBack = false
        const trying = (async () => {
          for (let n = 0; n < MOST && !isBack; n++) {
            await tryOften(g, bot, 5)
            await new Promise((resolve) => setTimeout(resolve, 100))
          }
        })()
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 1_200))
        await g.stop(service, 'SIGKILL')
        service = await g.start()
        isBack = true
        await trying
      }
      const { attempts } = await sourceOf(g, bot)
      t.ok(attempts > rounds * 45, `${attempts} attempts`)
      await until('all of them', async () => ((await incident())?.attempts ?? 0) >= attempts)
      // What is not told some seconds after it was counted is taken for lost.
      await new Promise((resolve) => setTimeout(resolve, 7_000))
      t.equal((await incident())?.attempts, attempts)
      await exactly(g, bot, attempts)
    },
  )

  await t.test('a damaged file costs the history, and nothing else', async (t) => {
    t.equal(await g.stop(service), 0)
    await writeFile(join(g.directory, 'state/attempts.db'), Buffer.alloc(20_000, 7))
    const { items } = await g.get('/v1/incidents').catch(() => ({ items: null }))
    t.equal(items, null)
    service = await g.start()
    t.equal(await lines(g, 'the memory of attempts was set aside'), 1)
    t.ok((await readdir(join(g.directory, 'state'))).includes('attempts.db.damaged'))
    t.equal(((await g.get('/v1/incidents')) as { items: unknown[] }).items.length, 2)
    await tryOften(g, '100.64.7.9', 4)
    await exactly(g, '100.64.7.9', 4)
    t.equal((await sourceOf(g, BOT)).attempts, 750, 'the kernel still knows')
  })
  t.equal(await g.stop(service), 0)
})

t.test('a full disk', async (t) => {
  const g = await gateway(t)
  const disk = await smallDisk(t, g, 4)
  const service = await g.start()
  await tryOften(g, BOT, 5)
  await exactly(g, BOT, 5)
  await writeFile(join(disk, 'filler'), Buffer.alloc(8 << 20)).catch(() => {})
  for (let i = 0; i < 4; i++) {
    t.same(new Set(await tryOften(g, `100.64.8.${i}`, 300)), new Set(['reset']))
  }
  await until('a word of it', async () => (await lines(g, 'attempts cannot be remembered')) > 0)
  await tryOften(g, BOT, 5)
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  t.equal(await lines(g, 'attempts cannot be remembered'), 1, 'said once')
  t.match(await g.get('/v1/status'), { in_sync: true, attempts: { total: 1_210 } })
  t.equal((await sourceOf(g, BOT)).attempts, 10)
  t.match(
    await sourceOf(g, '100.64.8.1'),
    { incidents: [{ source: '100.64.8.1' }] },
    'it is judged all the same',
  )
  await rm(join(disk, 'filler'))
  await until('the end of it', async () => (await lines(g, 'attempts are remembered again')) > 0)
  await exactly(g, BOT, 10)
  for (let i = 0; i < 4; i++) await exactly(g, `100.64.8.${i}`, 300)
  await until('all', async () => (await totals(g)) === 1_210)
  t.equal(await g.stop(service), 0)
})

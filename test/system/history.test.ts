/** What a gateway remembers of attempts: exact by the kernel's count, over kills, full disks and damaged files. */
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { gatewayAddress } from '../../scripts/lab/topology.ts'
import { type Gateway, gateway, PATIENCE, POLICIES, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const BOT = '100.64.7.7'
const MX = '203.0.113.9'
/** daemon and bin, by their numbers: the one is a relay, the other is governed. */
const RELAY_USER = 1
const OTHER_USER = 2
/** Hosts that may send are judged soon, and users of the gateway are a relay or governed. */
const SHARED = {
  ...POLICIES,
  'shared.yaml': `kind: policy
name: shared
networks: [${gatewayAddress.ipv4}, 100.64.8.25]
detection: 
  resolve_after: 7d
  exempt_host: { attempts: 10, destinations: 10, factor: 2, learn: 1s }
---
kind: relay
name: local
addresses: [192.0.2.77]
users: [daemon]
---
kind: exemption
name: mail
sources: [100.64.8.25]
`,
}

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
/** Connections of a local user of the gateway, each to another server. */
const byUser = async (g: Gateway, uid: number, times: number) => {
  const script = `use IO::Socket::INET;
for (1..${times}) {
  IO::Socket::INET->new(LocalAddr => '${gatewayAddress.ipv4}', PeerAddr => "203.0.113.$_", PeerPort => 25);
}`
  const as = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
  const { code } = await g.lab.exec(g.lab.gateway, [...as, '/usr/bin/perl', '-e', script], {
    timeoutMs: PATIENCE,
  })
  if (code !== 0) throw new Error(`user ${uid} could not connect`)
}
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
  const g = await gateway(t, SHARED)
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
      const tryAll = (from: string) =>
        g.client.connectAll(
          Array.from({ length: 45 }, (_, i) => ({ from, to: `198.51.100.${i + 1}`, port: 25 })),
        )
      const bot = { source: '100.64.8.1', user: null, set: 'sources4' }
      const host = { source: '100.64.8.25', user: null, set: 'senders4' }
      const daemon = { source: gatewayAddress.ipv4, user: RELAY_USER, set: 'senders4' }
      const customer = { source: gatewayAddress.ipv4, user: OTHER_USER, set: 'sources4' }
      const subjects = [
        { ...bot, tryAll: () => tryAll(bot.source), tryFew: () => tryOften(g, bot.source, 5) },
        { ...host, tryAll: () => tryAll(host.source), tryFew: () => tryOften(g, host.source, 5) },
        ...[daemon, customer].map((one) => ({
          ...one,
          tryAll: () => byUser(g, one.user, 45),
          tryFew: () => byUser(g, one.user, 5),
        })),
      ]
      type Subject = Pick<(typeof subjects)[number], 'source' | 'user' | 'set'>
      interface Found {
        readonly source: string
        readonly user: { readonly uid: number } | null
        readonly attempts: number
      }
      /** All that are of the source, and of the user. */
      const attemptsIn = async ({ source, user, set }: Subject) => {
        const allowed = set === 'senders4'
        const { items } = (await g.get('/v1/incidents?limit=100')) as {
          items: (Found & { kind: string })[]
        }
        return items.find(
          (one) =>
            one.source === source &&
            (one.user?.uid ?? null) === user &&
            (one.kind === 'exempt-host-anomaly') === allowed,
        )?.attempts
      }
      /** By the kernel's own counter. */
      const counted = async ({ source, set }: Subject) => {
        const listing = await g.nft('list', 'set', 'inet', 'egress25', set)
        const found = new RegExp(`${source.replaceAll('.', '\\.')} counter packets (\\d+)`).exec(listing)
        return Number(found?.[1] ?? 0)
      }
      /** Those that were told. */
      const toldOf = async ({ source, user, set }: Subject) => {
        const { items } = (await g.get(`/v1/attempts?source=${source}&limit=1000`)) as {
          items: { uid: number | null; verdict: string }[]
        }
        return items.filter(
          ({ uid, verdict }) => uid === user && (verdict === 'allow') === (set === 'senders4'),
        ).length
      }
      /** What the kernel counted before its incident began: of an exempt host that may be some. */
      const before: number[] = []
      for (const subject of subjects) {
        await subject.tryFew()
        // Whoever may send is judged when it is known for a second.
        await until(`an incident of ${subject.source} ${subject.user}`, async () => {
          await new Promise((resolve) => setTimeout(resolve, 1_100))
          await subject.tryAll()
          await until('all of it told', async () => (await toldOf(subject)) === (await counted(subject)))
          return attemptsIn(subject)
        })
        before.push((await counted(subject)) - ((await attemptsIn(subject)) ?? 0))
      }
      const MOST = 20
      for (let round = 0; round < 6; round++) {
        // It goes on until the service is back: before, within and after the kill.
        let isBack = false
        const trying = subjects.map(async ({ tryFew }) => {
          for (let n = 0; n < MOST && !isBack; n++) {
            await tryFew()
            await new Promise((resolve) => setTimeout(resolve, 100))
          }
        })
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 1_200))
        await g.stop(service, 'SIGKILL')
        service = await g.start()
        isBack = true
        await Promise.all(trying)
      }
      const all = await Promise.all(subjects.map(counted))
      for (const [i, subject] of subjects.entries()) {
        const attempts = (all[i] ?? 0) - (before[i] ?? 0)
        t.ok(attempts > 45, `${attempts} attempts of ${subject.source} ${subject.user}`)
        // What came between the first look and the first word is known with the minute's reading.
        await until(
          'all of them',
          async () => ((await attemptsIn(subject)) ?? 0) >= attempts,
          PATIENCE + 60_000,
        )
      }
      // What is not told some seconds after it was counted is taken for lost.
      await new Promise((resolve) => setTimeout(resolve, 7_000))
      for (const [i, subject] of subjects.entries())
        t.equal(
          await attemptsIn(subject),
          (all[i] ?? 0) - (before[i] ?? 0),
          `${subject.source} ${subject.user}`,
        )
      await exactly(g, bot.source, all[0] ?? 0)
    },
  )

  await t.test(
    'of a user who may send the program is looked up as well, once there is an incident',
    async (t) => {
      const script = `use IO::Socket::INET;
for (1..250) {
  push @held, IO::Socket::INET->new(LocalAddr => '${gatewayAddress.ipv4}', PeerAddr => "203.0.113.$_", PeerPort => 25);
  select(undef, undef, undef, 0.5);
}
sleep 600`
      const as = ['setpriv', `--reuid=${RELAY_USER}`, `--regid=${RELAY_USER}`, '--clear-groups']
      const argv = [...as, '/usr/bin/perl', '-e', script]
      const child = g.lab.spawn(g.lab.gateway, argv, { stdio: 'ignore' })
      t.teardown(() => child.kill('SIGKILL'))
      const found = await until('its program', async () => {
        const { items } = (await g.get('/v1/incidents?kind=exempt-host-anomaly')) as {
          items: { user: { uid: number } | null; process: object | null }[]
        }
        return items.find(({ user, process }) => user?.uid === RELAY_USER && process !== null)
      })
      t.match(found, { process: { name: 'perl', path: '/usr/bin/perl' } })
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
    t.equal(((await g.get('/v1/incidents')) as { items: unknown[] }).items.length, 5)
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
  const total = async () => ((await g.get('/v1/status')) as { attempts: { total: number } }).attempts.total
  await until('all of them counted', async () => (await total()) === 1_210)
  t.match(await g.get('/v1/status'), { in_sync: true })
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

/** Changes of others that nobody heard of: while the service was stopped, or had nobody who listened. */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { API, type Gateway, gateway, PATIENCE, until } from './gateway.ts'
import { openStream, type Stream } from './socket-client.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const BOT = { from: '100.64.7.7', to: '203.0.113.9', port: 25 }

const statusOf = (g: Gateway) => g.get('/v1/status') as Promise<{ in_sync: boolean; drift: number }>
const attempts = async (g: Gateway) =>
  ((await g.get('/v1/sources/100.64.7.7')) as { attempts: number }).attempts
const rulesOf = (g: Gateway) => g.nft('-s', 'list', 'chain', 'inet', 'egress25', 'forward')
/** Which writing of the table this is. */
const eraOf = async (g: Gateway) =>
  /0x00000000 : ([^,]+)/.exec(await g.nft('list', 'map', 'inet', 'egress25', 'applied'))?.[1]
const appliedHow = async (g: Gateway) =>
  [...(await g.log()).matchAll(/"how":"([a-z]+)"[^\n]*policies are in force/g)].map(([, how]) => how)

/** The process among the children of another, by its name. */
async function childOf(pid: number, name: string): Promise<number | null> {
  for (const entry of await readdir('/proc')) {
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    const [, command, parent] = /^\d+ \((.*)\) \w (\d+)/.exec(stat) ?? []
    if (command === name && Number(parent) === pid) return Number(entry)
  }
  return null
}

t.test('what was changed while the service was stopped', async (t) => {
  const g = await gateway(t)
  let service = await g.start()
  t.equal(await g.client.connect(BOT), 'reset')
  t.equal(await attempts(g), 1)
  const era = await eraOf(g)

  t.test('nothing: a restart leaves the table alone, also after others changed theirs', async (t) => {
    const noted = () => readFile(`${g.directory}/state/generation`, 'utf8').catch(() => '')
    const before = await noted()
    await g.nft('add', 'table', 'inet', 'other')
    await until('the note of it', async () => ![before, ''].includes(await noted()))
    await g.stop(service, 'SIGKILL')
    service = await g.start()
    t.equal((await appliedHow(g)).at(-1), 'unchanged')
    t.equal(await eraOf(g), era)
    t.equal(await attempts(g), 1)
  })

  t.test('a rule of ours: it is back, and what was counted still there', async (t) => {
    const before = await rulesOf(g)
    await g.stop(service)
    await g.nft('flush', 'chain', 'inet', 'egress25', 'forward')
    t.equal(await g.client.connect(BOT), 'connected', 'nobody is there to see it')
    service = await g.start()
    t.equal((await appliedHow(g)).at(-1), 'replacement')
    t.equal(await rulesOf(g), before)
    t.equal(await g.client.connect(BOT), 'reset')
    t.equal(await attempts(g), 2)
  })

  t.test('an element of ours', async (t) => {
    await g.stop(service)
    await g.nft('delete', 'element', 'inet', 'egress25', 'policy4-10', '{ 100.64.0.0 }')
    service = await g.start()
    t.equal(await g.client.connect(BOT), 'reset')
  })

  t.test('the service died before a change of others was put right', async (t) => {
    service.kill('SIGSTOP')
    await g.nft('flush', 'chain', 'inet', 'egress25', 'forward')
    await g.stop(service, 'SIGKILL')
    service = await g.start()
    t.equal(await g.client.connect(BOT), 'reset')
  })
})

t.test('what was changed while nobody listened', async (t) => {
  const g = await gateway(t)
  const service = await g.start()
  const era = await eraOf(g)
  const listener = () => childOf(service.pid ?? 0, 'socat')
  /** From its stop to its end socat passes nothing on, and what it had still to read goes with it. */
  const deaf = async (meanwhile: () => Promise<unknown>) => {
    const pid = await until('socat', listener)
    process.kill(pid, 'SIGSTOP')
    await until('its stop', async () => /\) T /.test(await readFile(`/proc/${pid}/stat`, 'utf8')))
    await meanwhile()
    process.kill(pid, 'SIGKILL')
    await until('another socat', async () => ![pid, null].includes(await listener()))
  }

  t.test('nothing: the table is left alone', async (t) => {
    await deaf(async () => {})
    await sleep(600)
    t.equal(await eraOf(g), era)
    t.same(await statusOf(g), { ...(await statusOf(g)), in_sync: true, drift: 0 })
  })

  t.test('a rule: the table is written anew', async (t) => {
    await deaf(() => g.nft('flush', 'chain', 'inet', 'egress25', 'forward'))
    await until('the rule', async () => (await rulesOf(g)).includes('dport 25'))
    t.not(await eraOf(g), era)
    t.equal(await g.client.connect(BOT), 'reset')
    t.match(await g.log(), /nftables was changed while nobody listened/)
  })
})

t.test(
  'without policies that could be read, the last good rules are watched over all the same',
  async (t) => {
    const g = await gateway(t)
    await g.stop(await g.start())
    await writeFile(`${g.directory}/policies/broken.yaml`, 'kind: nonsense\n')
    // Without its copy of the documents, the service knows the rules, and nothing else.
    await rm(`${g.directory}/state/documents`, { recursive: true })
    await g.start('/healthz')
    t.equal((await g.ask('GET', '/readyz')).status, 503)
    t.equal(await g.client.connect(BOT), 'reset')
    await g.nft('flush', 'ruleset')
    await until('the rules', async () => (await rulesOf(g)).includes('dport 25'))
    t.equal(await g.client.connect(BOT), 'reset')
    t.equal((await statusOf(g)).drift, 1)
  },
)

interface Heard {
  readonly id: string
  readonly type: string
  readonly data: { readonly event?: string; readonly by?: { readonly program: string; readonly pid: number } }
}

/** A client of the events: curl(1), until it is ended. */
function listen(g: Gateway, query = '', lastId?: string) {
  const argv = ['curl', '-sN', ...(lastId === undefined ? [] : ['-H', `last-event-id: ${lastId}`])]
  const curl = g.lab.spawn(g.lab.gateway, [...argv, `${API}/v1/events${query}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  curl.stdout?.on('data', (bytes) => (text += bytes))
  const heard = (): Heard[] =>
    text
      .split('\n\n')
      .slice(0, -1)
      .filter((block) => /^(id|event): /.test(block))
      .map((block) => {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1] ?? ''
        return { id: field('id'), type: field('event'), data: JSON.parse(field('data')) }
      })
  return { curl, heard, opened: () => until('the stream', async () => text.includes(': egress25')) }
}

t.test('events, as they happen', async (t) => {
  const g = await gateway(t)
  let service = await g.start()
  let last = ''

  t.test('whoever flushes our rules is named, and they are back', async (t) => {
    const { curl, heard, opened } = listen(g, '?types=drift,apply')
    await opened()
    for (const [what, ...argv] of [
      ['the ruleset', 'flush', 'ruleset'],
      ['a rule of theirs', 'insert', 'rule', 'inet', 'egress25', 'forward', 'accept'],
    ] as const) {
      const before = heard().length
      await g.nft(...argv)
      await until(what, async () =>
        heard()
          .slice(before)
          .some(({ data }) => data.event === 'healed'),
      )
      t.match(heard()[before], {
        type: 'drift',
        data: { event: 'found', by: { program: 'nft', pid: Number } },
      })
      t.equal(await g.client.connect(BOT), 'reset')
    }
    const put = await g.ask('PUT', '/v1/exemptions/e', { sources: ['100.64.9.9'] })
    t.equal(put.status, 201)
    await until('the apply', async () =>
      heard().some(({ type, data }) => type === 'apply' && 'digest' in data),
    )
    last = heard().at(-1)?.id ?? ''
    curl.kill()
  })

  t.test('who was away hears what it has missed, and only that', async (t) => {
    t.equal(await g.client.connect(BOT), 'reset')
    const { curl, heard } = listen(g, '', last)
    await until('the attempt', async () => heard().some(({ type }) => type === 'attempt'))
    t.notOk(heard().some(({ type, id }) => type === 'gap' || id === last))
    last = heard().at(-1)?.id ?? ''
    curl.kill()
  })

  t.test('after a restart it learns that there is a gap', async (t) => {
    await g.stop(service, 'SIGKILL')
    service = await g.start()
    const { curl, heard } = listen(g, '', last)
    await until('the gap', async () => heard().some(({ type }) => type === 'gap'))
    t.match(heard()[0], { type: 'gap' })
    curl.kill()
  })

  t.test('a mistake', async (t) => {
    const { status, text } = await g.ask('GET', '/v1/events?types=drift,nonsense')
    t.same([status, JSON.parse(text).code], [400, 'bad-request'])
  })

  t.test('a hundred may listen, and whoever goes makes room', async (t) => {
    const question = { method: 'GET', path: '/v1/events' }
    const open = () => openStream(`${g.directory}/api.sock`, question)
    // Those who listened before may only just have gone.
    const streams: Stream[] = []
    await until('a hundred', async () => {
      while (streams.length < 100) {
        const stream = await open()
        if (stream.status !== 200) return false
        streams.push(stream)
      }
      return true
    })
    const refused = await open()
    t.equal(refused.status, 503)
    await until('why', async () => refused.isOver())
    t.equal(JSON.parse(refused.text()).code, 'too-many-listeners')
    t.notOk(
      streams.some((stream) => stream.isOver()),
      'those who listen go on',
    )
    streams.pop()?.close()
    const next = await until('room', async () => {
      const stream = await open()
      return stream.status === 200 ? stream : null
    })
    for (const stream of [...streams, next]) stream.close()
  })

  t.test('who does not read is not waited for, and the service ends in time', async (t) => {
    const { curl, opened } = listen(g)
    await opened()
    curl.kill('SIGSTOP')
    const attempts = Array.from({ length: 300 }, (_, i) => ({ ...BOT, to: `203.0.113.${i % 250}` }))
    t.same(await g.client.connectAll(attempts, 20), Array(300).fill('reset'))
    t.match(await statusOf(g), { in_sync: true })
    const started = performance.now()
    t.equal(await g.stop(service), 0)
    t.ok(performance.now() - started < PATIENCE, 'before systemd would lose its patience')
    curl.kill('SIGKILL')
  })
})

t.test('two programs fight over the table: slower and slower, and everybody is told', async (t) => {
  const g = await gateway(t)
  await g.start()
  const other = g.lab.spawn(g.lab.gateway, ['sh', '-c', 'while :; do nft flush ruleset; sleep 0.2; done'], {
    stdio: 'ignore',
  })
  const told = () => g.deliveries.filter(({ body }) => JSON.stringify(body).includes('table-contested'))
  await until('the alert', async () => told().length > 0)
  await sleep(1_500)
  t.equal(told().length, 1, 'once')
  t.match(await g.get('/v1/status'), { contested: true })
  const { drift } = await statusOf(g)
  t.ok(drift >= 3 && drift <= 6, `${drift} times`)
  process.kill(-(other.pid ?? 0), 'SIGKILL')
  await until('the rules', async () => (await rulesOf(g)).includes('dport 25'))
  t.equal(await g.client.connect(BOT), 'reset')
})

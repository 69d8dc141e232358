/** Changes of others that nobody heard of: while the service was stopped, or had nobody who listened. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type Gateway, gateway, until } from './gateway.ts'

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
    await g.nft('add', 'table', 'inet', 'other')
    await sleep(700)
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
  const deaf = async () => {
    process.kill((await until('socat', listener)) as number, 'SIGKILL')
    await until('its end', async () => (await listener()) === null)
  }

  t.test('nothing: the table is left alone', async (t) => {
    await deaf()
    await until('socat again', listener)
    await sleep(600)
    t.equal(await eraOf(g), era)
    t.same(await statusOf(g), { ...(await statusOf(g)), in_sync: true, drift: 0 })
  })

  t.test('a rule: the table is written anew', async (t) => {
    await deaf()
    await g.nft('flush', 'chain', 'inet', 'egress25', 'forward')
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
    await g.start('/healthz')
    t.equal(await g.client.connect(BOT), 'reset')
    await g.nft('flush', 'ruleset')
    await until('the rules', async () => (await rulesOf(g)).includes('dport 25'))
    t.equal(await g.client.connect(BOT), 'reset')
    t.equal((await statusOf(g)).drift, 1)
  },
)

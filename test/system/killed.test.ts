/**
 * Whoever changes the rules is killed, with the real kernel: old rules or new ones, never none; and never for long the
 * wrong ones. With SEED in the environment the moments are repeated, with RUNS there are so many times as many.
 */
import { once } from 'node:events'
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Gateway, gateway, ROOT, until } from './gateway.ts'
import { normalListing } from './listing.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const SEED = Number(process.env['SEED'] ?? Date.now() % 2 ** 31)
const RUNS = Number(process.env['RUNS'] ?? 1)
const NODE = join(ROOT, 'node_modules/.bin/node')
const BOT = { from: '100.64.7.7', to: '203.0.113.9', port: 25 }
t.comment(`SEED=${SEED}`)

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
}

const tableOf = async (g: Gateway) => normalListing(await g.nft('-s', 'list', 'table', 'inet', 'egress25'))

/** Every nft that runs in the gateway has ended. */
async function calm(g: Gateway): Promise<void> {
  await until('nft to end', async () => {
    const { stdout } = await g.lab.exec(g.lab.gateway, ['ip', 'netns', 'pids', g.lab.gateway])
    const names = await Promise.all(
      stdout
        .split('\n')
        .filter((pid) => pid !== '')
        .map((pid) => readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')),
    )
    return !names.includes('nft\n')
  })
}

/** Two states of the policies that differ in whom they exempt, in what becomes of the rest, and in their chains. */
function statesOf(count: number): { a: string; b: string } {
  const hosts = (from: number) =>
    Array.from({ length: count }, (_, i) => `100.65.${(from + i) >> 8}.${(from + i) & 255}`)
  const state = (from: number, action: string) =>
    `kind: policy\nname: pool\nnetworks: [100.64.0.0/10]\naction: ${action}\n---\nkind: exemption\nname: e\nsources: [${hosts(from).join(', ')}]\n`
  return { a: state(0, 'reject'), b: `${state(count / 2, 'drop')}rate: 30/minute\n` }
}

t.test('killed at any moment: the kernel and the boot file hold the old rules or the new ones', async (t) => {
  await Promise.all([1, 2].map((half) => killApplies(t, Math.ceil((RUNS * 200) / 2), SEED + half)))
})

async function killApplies(t: Test, rounds: number, seed: number): Promise<void> {
  const states = statesOf(400)
  const g = await gateway(t, { 'policy.yaml': states.a })
  const policies = join(g.directory, 'policies')
  const use = async (state: 'a' | 'b') => copyFile(join(g.directory, state), join(policies, 'policy.yaml'))
  const known = new Map<string, string>()
  for (const state of ['a', 'b'] as const) {
    await writeFile(join(g.directory, state), states[state])
    await use(state)
    t.equal((await g.egress25('apply')).code, 0)
    known.set(JSON.stringify(await tableOf(g)), state)
  }
  t.equal(known.size, 2)
  const random = randomOf(seed)
  const found = { a: 0, b: 0 }
  for (let round = 0; round < rounds; round++) {
    const worker = g.lab.spawn(g.lab.gateway, [NODE, join(ROOT, 'test/system/apply-worker.ts'), g.config], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(worker.stdout as NodeJS.ReadableStream, 'data')
    await sleep(random() * 90)
    const ended = once(worker, 'exit')
    // Alone, so that its nft goes on without it; or together with it.
    const together = random() < 0.5
    process.kill(together ? -(worker.pid ?? 0) : (worker.pid ?? 0), 'SIGKILL')
    await ended
    await calm(g)
    const now = known.get(JSON.stringify(await tableOf(g)))
    if (now !== 'a' && now !== 'b')
      return void t.fail(`seed ${seed}, round ${round}: the kernel holds neither`, {
        table: await tableOf(g),
      })
    found[now]++
    if (round % 8 === 0) {
      // What a boot would bring.
      await g.nft('flush', 'ruleset')
      const loaded = await g.lab.exec(g.lab.gateway, ['nft', '-f', join(g.directory, 'state/ruleset.nft')])
      if (loaded.code !== 0 || !known.has(JSON.stringify(await tableOf(g))))
        return void t.fail(`seed ${seed}, round ${round}: the boot file brings neither`, { loaded })
    }
    if (round % 8 === 4) {
      const wanted = random() < 0.5 ? 'a' : 'b'
      await use(wanted)
      const applied = await g.egress25('apply')
      if (applied.code !== 0 || known.get(JSON.stringify(await tableOf(g))) !== wanted)
        return void t.fail(`seed ${seed}, round ${round}: the next apply does not bring what is asked for`, {
          applied,
        })
    }
  }
  t.comment(`${rounds} kills: ${found.a} times the one state, ${found.b} times the other`)
  t.ok(found.a > rounds / 10 && found.b > rounds / 10, 'they came at many moments')
}

t.test('the service is killed in the middle of changes: what it had said yes to is there', async (t) => {
  const g = await gateway(t)
  const random = randomOf(SEED)
  const acknowledged = new Map<string, boolean>()
  let number = 0
  for (let round = 0; round < 15 * RUNS; round++) {
    const service = await g.start().catch(async (error) => {
      throw new Error(`${error.message}\n${(await g.log()).slice(-3000)}`)
    })
    const ended = once(service, 'exit')
    let isAlive = true
    const change = async () => {
      while (isAlive) {
        const name = `host-${++number}`
        const path = `/v1/exemptions/${name}`
        const asked = async (method: string, body?: unknown) => {
          const answer = await g.ask(method, path, body).catch(() => null)
          return answer !== null && answer.status < 300
        }
        if (await asked('PUT', { sources: [`100.66.${number >> 8}.${number & 255}`] }))
          acknowledged.set(name, true)
        if (number % 3 === 0 && acknowledged.get(name)) {
          acknowledged.delete(name)
          if (await asked('DELETE')) acknowledged.set(name, false)
        }
      }
    }
    const changes = change()
    await sleep(random() * 150)
    process.kill(random() < 0.5 ? -(service.pid ?? 0) : (service.pid ?? 0), 'SIGKILL')
    isAlive = false
    await ended
    await changes
    await calm(g)
    t.equal(await g.client.connect(BOT), 'reset', `round ${round}: nothing is open`)
  }
  const service = await g.start()
  for (const [name, isThere] of acknowledged) {
    const { status } = await g.ask('GET', `/v1/exemptions/${name}`)
    if ((status === 200) !== isThere) t.fail(`${name} was acknowledged, and then ${status}`)
  }
  const { items } = JSON.parse((await g.ask('GET', '/v1/exemptions?limit=1000')).text)
  const exempt = /elements = \{(.*?)\}/s.exec(
    await g.nft('list', 'set', 'inet', 'egress25', 'exempt4-32'),
  )?.[1]
  t.equal(exempt?.split(',').length, items.length, 'the kernel has them all, and no other')
  t.ok(acknowledged.size > 10 * RUNS, `${acknowledged.size} changes were acknowledged`)
  const files = await readdir(join(g.directory, 'policies'), { recursive: true })
  t.same(
    files.filter((file) => !file.endsWith('.yaml') && file !== 'exemptions'),
    [],
    'nothing half-written is left',
  )
  await g.stop(service)
})

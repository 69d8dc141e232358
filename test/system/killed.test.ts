/**
 * Whoever changes the rules is killed, with the real kernel: old rules or new ones, never none; and never for long the
 * wrong ones. With SEED in the environment the moments are repeated, with RUNS there are so many times as many.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { serialize } from 'node:v8'
import t, { type Test } from 'tap'
import { openLab } from '../../scripts/lab/lab.ts'
import { sendSignal } from '../../scripts/lab/process.ts'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { gateway, ROOT, until } from './gateway.ts'
import { normalListing } from './listing.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const SEED = Number(process.env['SEED'] ?? Date.now() % 2 ** 31)
const RUNS = Number(process.env['RUNS'] ?? 1)
const NODE = join(ROOT, 'node_modules/.bin/node')
const WORKER = join(ROOT, 'test/system/apply-worker.ts')
const TABLE = ['inet', 'egress25'] as const
const BOT = { from: '100.64.7.7', to: '203.0.113.9', port: 25 }
t.comment(`SEED=${SEED}`)
// A busy machine takes its time, and nothing here depends on it.
t.setTimeout(600_000 * Math.max(1, RUNS))

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

/** Everything that was started together with a process, such as its nft, has come to its end. */
async function calm(leader: ChildProcess): Promise<void> {
  await until('the end of what it started', async () => !sendSignal(-(leader.pid ?? 0), 0))
}

/** Two rulesets that differ in whom they exempt, in what becomes of the rest, and in their chains. */
async function rulesetsOf(count: number): Promise<readonly [Ruleset, Ruleset]> {
  const hosts = (from: number) =>
    Array.from({ length: count }, (_, i) => `100.65.${(from + i) >> 8}.${(from + i) & 255}`)
  const compiled = async (from: number, action: string, more = '') => {
    const text = `kind: policy\nname: pool\nnetworks: [100.64.0.0/10]\naction: ${action}\n---\nkind: exemption\nname: e\nsources: [${hosts(from).join(', ')}]\n${more}`
    const overlay = new Map([['policies.yaml', text]])
    const { model } = await loadPolicies(import.meta.dirname, { now: Date.now(), overlay })
    if (model === null) throw new Error('these policies are not sound')
    return compile(model, DEFAULT_COMPILE_OPTIONS)
  }
  return [await compiled(0, 'reject'), await compiled(count / 2, 'drop', 'rate: 30/minute\n')]
}

// Each has a gateway of its own, and waits a lot.
t.jobs = 2

t.test('killed at any moment: the kernel and the boot file hold the old rules or the new ones', async (t) => {
  const rulesets = await rulesetsOf(400)
  await Promise.all([1, 2].map((half) => killApplies(t, rulesets, Math.ceil(RUNS * 25), SEED + half)))
})

/**
 * Runs something while nothing that was started together with a process goes on: whoever lists while rules change begins
 * anew in the middle, and nft 1.0.6 keeps what it had read, so that it shows what never was.
 */
async function heldStill<T>(leader: ChildProcess, work: () => Promise<T>): Promise<T> {
  const group = -(leader.pid ?? 0)
  sendSignal(group, 'SIGSTOP')
  await until('the stop of all of it', async () =>
    (await statesOf(group)).every((state) => /[TZ]/.test(state)),
  )
  try {
    return await work()
  } finally {
    sendSignal(group, 'SIGCONT')
  }
}

/** The states of the processes of a group, as proc(5) names them. */
async function statesOf(group: number): Promise<string[]> {
  const stats = await Promise.all(
    (await readdir('/proc'))
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')),
  )
  return stats.flatMap((stat) => {
    const [, state = '', ofGroup] = /\) (\w) \d+ (\d+) /.exec(stat) ?? []
    return Number(ofGroup) === -group ? [state] : []
  })
}

/** Of each process that applies: its nft is killed so many times, and then the process itself. */
const NFT_KILLS = 3

/** The so-manieth nft that a process starts from now on, as seen from outside; null when the process ends before. */
async function nftOf(parent: ChildProcess, count: number): Promise<number | null> {
  const seen = new Set<string>()
  for (; parent.exitCode === null; await sleep(1)) {
    const children = await readFile(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').catch(() => '')
    for (const pid of children.split(' ').filter(Boolean)) {
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
      if (name === 'nft\n' && seen.add(pid).size >= count) return Number(pid)
    }
  }
  return null
}

async function killApplies(
  t: Test,
  rulesets: readonly [Ruleset, Ruleset],
  rounds: number,
  seed: number,
): Promise<void> {
  // Torn down the other way round: nothing is written any more when the folder goes.
  const directory = await mkdtemp(join(tmpdir(), 'egress25-killed-'))
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const lab = await openLab()
  t.teardown(() => lab.close())
  const state = join(directory, 'state')
  const file = join(directory, 'rulesets')
  await writeFile(file, serialize(rulesets))
  // What it starts with is compiled once, not 200 times.
  const env = { ...process.env, NODE_COMPILE_CACHE: join(directory, 'cache') }
  const run: ProcessRunner = (argv, options) =>
    runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], options)
  const nft = (...args: string[]) => lab.exec(lab.gateway, ['nft', ...args])
  const table = async () => JSON.stringify(normalListing((await nft('-s', 'list', 'table', ...TABLE)).stdout))
  /** As the next program does it that knows nothing of what was before. */
  const apply = (which: 0 | 1) => new Enforcer(openNft(run), state).apply(rulesets[which])

  const known = new Map<string, number>()
  for (const which of [0, 1] as const) {
    await apply(which)
    known.set(await table(), which)
  }
  t.equal(known.size, 2)
  const random = randomOf(seed)
  const found = [0, 0]
  let kills = 0
  for (let round = 0; round < rounds; round++) {
    const argv = [NODE, '--disable-warning=ExperimentalWarning', WORKER, state, file]
    const worker = lab.spawn(lab.gateway, argv, { stdio: ['pipe', 'pipe', 'inherit'], env })
    await once(worker.stdout as NodeJS.ReadableStream, 'data')
    const wrong = (what: string, extra: Record<string, unknown>) =>
      t.fail(`seed ${seed}, round ${round}: ${what}`, extra)
    for (let kill = 0; kill < NFT_KILLS; kill++) {
      const victim = await nftOf(worker, 1 + Math.floor(random() * 5))
      await sleep(random() * 5)
      if (victim === null) return void wrong('whoever applies has given up', {})
      sendSignal(victim, 'SIGKILL')
      const at = await heldStill(worker, table)
      if (!known.has(at)) return void wrong('without its nft, the kernel holds neither', { table: at })
      kills++
    }
    await nftOf(worker, 1 + Math.floor(random() * 5))
    await sleep(random() * 20)
    const ended = once(worker, 'exit')
    // Alone, so that its nft is left; or together with it.
    const together = random() < 0.5
    process.kill(together ? -(worker.pid ?? 0) : (worker.pid ?? 0), 'SIGKILL')
    await ended
    kills++
    if (round % 4 === 2) {
      // At once, whatever the one before has left running: what comes last is what stays.
      const wanted = random() < 0.5 ? 0 : 1
      await apply(wanted)
      await calm(worker)
      const after = known.get(await table())
      if (after !== wanted) return void wrong('the next apply does not bring what is asked for', { after })
    }
    await calm(worker)
    const at = await table()
    const now = known.get(at)
    if (now === undefined) return void wrong('the kernel holds neither', { table: at })
    found[now] = (found[now] ?? 0) + 1
    if (round % 4 === 0) {
      // What a boot would bring.
      await nft('flush', 'ruleset')
      const loaded = await nft('-f', join(state, 'ruleset.nft'))
      if (loaded.code !== 0 || !known.has(await table()))
        return void wrong('the boot file brings neither', { loaded })
    }
  }
  t.comment(`${kills} kills: ${found[0]} times the one state, ${found[1]} times the other`)
  t.ok(
    found.every((times) => times > rounds / 10),
    'they came at many moments',
  )
}

t.test('the service is killed in the middle of changes: what it had said yes to is there', async (t) => {
  const g = await gateway(t)
  const random = randomOf(SEED)
  const acknowledged = new Map<string, boolean>()
  /** Requests for exemptions, by their ids: whether somebody was told that they are in force. */
  const requests = new Map<string, { name: string; told: boolean | null }>()
  let number = 0
  for (let round = 0; round < 6 * RUNS; round++) {
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
    const decide = async () => {
      while (isAlive) {
        const name = `asked-${++number}`
        const asked = async (path: string, body: object) => {
          const answer = await g.ask('POST', `/v1/exemption-requests${path}`, body).catch(() => null)
          return answer !== null && answer.status < 300 ? JSON.parse(answer.text) : null
        }
        const made = await asked('', { name, sources: [`100.67.${number >> 8}.${number & 255}`] })
        if (made === null) continue
        const request = { name, told: null as boolean | null }
        requests.set(made.id, request)
        if ((await asked(`/${made.id}/approve`, {})) === null) continue
        request.told = true
        if (number % 2 === 0) continue
        request.told = null
        if ((await asked(`/${made.id}/revoke`, { reason: 'So.' })) !== null) request.told = false
      }
    }
    const before = acknowledged.size
    const changes = Promise.all([change(), decide()])
    await until('a change', async () => acknowledged.size > before)
    await sleep(random() * 150)
    process.kill(random() < 0.5 ? -(service.pid ?? 0) : (service.pid ?? 0), 'SIGKILL')
    isAlive = false
    await ended
    await changes
    await calm(service)
    t.equal(await g.client.connect(BOT), 'reset', `round ${round}: nothing is open`)
  }
  const service = await g.start()
  for (const [name, isThere] of acknowledged) {
    const { status } = await g.ask('GET', `/v1/exemptions/${name}`)
    if ((status === 200) !== isThere) t.fail(`${name} was acknowledged, and then ${status}`)
  }
  for (const [id, { name, told }] of requests) {
    const { state, history } = JSON.parse((await g.ask('GET', `/v1/exemption-requests/${id}`)).text)
    const { status } = await g.ask('GET', `/v1/exemptions/${name}`)
    if ((status === 200) !== (state === 'in-force'))
      t.fail(`${name} is ${state}, and its exemption ${status}`)
    if (told !== null && told !== (state === 'in-force'))
      t.fail(`${name}: ${told} was said, and it is ${state}`)
    const events = history.map(({ event, by }: { event: string; by: string }) => `${event} by ${by}`)
    const wanted = { requested: 1, 'in-force': 2, revoked: 3 }[state as string]
    t.equal(events.length, wanted, `${name} is ${state}: ${events.join(', ')}`)
  }
  t.ok(requests.size >= RUNS, `${requests.size} requests`)
  const { items } = JSON.parse((await g.ask('GET', '/v1/exemptions?limit=1000')).text)
  const exempt = /elements = \{(.*?)\}/s.exec(
    await g.nft('list', 'set', 'inet', 'egress25', 'exempt4-32'),
  )?.[1]
  t.equal(exempt?.split(',').length, items.length, 'the kernel has them all, and no other')
  t.ok(acknowledged.size >= 3 * RUNS, `${acknowledged.size} changes were acknowledged`)
  const files = await readdir(join(g.directory, 'policies'), { recursive: true })
  t.same(
    files.filter((file) => !file.endsWith('.yaml') && file !== 'exemptions'),
    [],
    'nothing half-written is left',
  )
  await g.stop(service)
})

/** Changes that take themselves back unless somebody confirms them: whoever lives or dies meanwhile. */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, uptime } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Lab, openLab } from '../../scripts/lab/lab.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { Controller } from '../../src/control/controller.ts'
import { answers, type FindGuard, UnguardedError } from '../../src/control/trial/guard.ts'
import { NothingPendingError } from '../../src/control/trial/pending.ts'
import type { TrialOptions } from '../../src/control/trial/trial.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { type Gateway, gateway, PATIENCE, ROOT, until } from './gateway.ts'

const GUARD = join(ROOT, 'scripts/rollback-guard')

/** Governed and never exempt. */
const CLOSED = { from: '100.64.1.2', to: '203.0.113.9', port: 25 }
/** What a change on trial opens. */
const OPENED = { from: '100.64.9.9', to: '203.0.113.9', port: 25 }

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

// Most of the time they wait.
t.jobs = 6

const exemption = (name: string, source: string) => `kind: exemption\nname: ${name}\nsources: [${source}]\n`

const open = (g: Gateway, name = 'opened', source = OPENED.from) =>
  writeFile(join(g.directory, 'policies', `${name}.yaml`), exemption(name, source))

/** The digest that the boot file, with the changes it includes, brings into force; null when there is none. */
async function digestOfBootFile(directory: string): Promise<string | null> {
  const texts = [await readFile(join(directory, 'ruleset.nft'), 'utf8').catch(() => '')]
  const name = /changes\/(\w+)-\*\.nft"\n$/.exec(texts[0] ?? '')?.[1]
  for (const file of (await readdir(join(directory, 'changes')).catch(() => [])).sort()) {
    if (name !== undefined && file.startsWith(`${name}-`))
      texts.push(await readFile(join(directory, 'changes', file), 'utf8'))
  }
  const marks = [
    ...texts.join('').matchAll(/^(?:add|create) element inet egress25 applied \{ .*: ([^:]+) \}$/gm),
  ].at(-1)?.[1]
  return marks?.replaceAll(/0x| \. /g, '') ?? null
}

interface Status {
  readonly in_sync: boolean
  readonly drift: number
  readonly ruleset: { readonly digest: string } | null
  readonly pending: { readonly id: string; readonly deadline: string; readonly seconds_left: number } | null
  readonly held: { readonly id: string; readonly digest: string } | null
  readonly attempts: { readonly total: number }
}

const statusOf = async (g: Gateway) => (await g.get('/v1/status')) as unknown as Status

const state = (g: Gateway) => join(g.directory, 'state')

/** Seconds until the packets of a change on trial are refused again. */
async function secondsUntilClosed(g: Gateway, start: number): Promise<number> {
  await until('the rules from before', async () => (await g.client.connect(OPENED)) === 'reset')
  return (performance.now() - start) / 1_000
}

/** A change on trial is in force until its time is over, which on a busy machine may be already. */
const isOpen = (t: Test, outcome: string | undefined, end: number) =>
  t.ok(outcome === 'connected' || performance.now() >= end, `${outcome}: not before its time`)

/** What the service says it took back, and why. */
const takenBack = async (g: Gateway) =>
  (await g.log()).split('\n').flatMap((line) => {
    if (!line.includes('an unconfirmed change was taken back')) return []
    return [JSON.parse(line) as { id: string; by: string }]
  })

async function problemOf(g: Gateway, method: string, path: string, body?: unknown) {
  const { status, text } = await g.ask(method, path, body)
  return [status, (JSON.parse(text) as { code?: string }).code]
}

t.test('confirmed it stays; not confirmed the service takes it back', { buffered: true }, async (t) => {
  const g = await gateway(t)
  const service = await g.start()
  t.equal(await g.client.connect(OPENED), 'reset')
  const before = await digestOfBootFile(state(g))
  t.equal((await statusOf(g)).ruleset?.digest, before)

  await open(g)
  const applied = await g.egress25('apply', '--confirm', '5m')
  t.match(applied, { code: 0, stdout: /applied: .*\ntaken back in (?:2\d\d|300) s, unless you confirm it/ })
  t.equal(await g.client.connect(OPENED), 'connected')
  const { pending, ruleset, held } = await statusOf(g)
  t.match(pending, { id: /^[0-9a-f]{16}$/, deadline: /Z$/, seconds_left: Number })
  t.ok(pending !== null && pending.seconds_left > 0 && pending.seconds_left <= 300)
  t.equal(held, null)
  t.equal(await digestOfBootFile(state(g)), before, 'a boot would bring back what was confirmed')

  await t.test('changes are refused meanwhile', async (t) => {
    const refused = [409, 'confirmation-pending']
    t.same(await problemOf(g, 'POST', '/v1/apply'), refused)
    t.same(await problemOf(g, 'POST', '/v1/apply?confirm=60s'), refused)
    t.same(await problemOf(g, 'PUT', '/v1/exemptions/x', { sources: ['100.64.7.7'] }), refused)
    t.same(await problemOf(g, 'DELETE', '/v1/exemptions/opened'), refused)
    t.same(await problemOf(g, 'PUT', '/v1/exemptions/x?dry_run=true', { sources: ['100.64.7.7'] }), [
      200,
      undefined,
    ])
    t.match(await g.egress25('apply'), { code: 1, stderr: /egress25 confirm, or egress25 rollback/ })
    service.kill('SIGHUP')
    await until('the refusal', async () => (await g.log()).includes('waits for its confirmation'))
    t.match(await statusOf(g), { pending: { id: pending?.id }, ruleset: { digest: ruleset?.digest } })
  })

  t.match(await g.egress25('confirm'), { code: 0, stdout: 'confirmed: the rules stay\n' })
  t.equal(await digestOfBootFile(state(g)), ruleset?.digest, 'also after a reboot')
  t.match(await statusOf(g), { pending: null, held: null, in_sync: true })
  t.match(await g.egress25('confirm'), { code: 1, stderr: /no change waits/ })
  t.same(await problemOf(g, 'POST', '/v1/confirm'), [409, 'nothing-pending'])
  t.same(await problemOf(g, 'POST', '/v1/rollback'), [409, 'nothing-pending'])

  await t.test('a time that is none, or too short or long', async (t) => {
    for (const time of ['4s', '2h', '60', '']) {
      t.same(await problemOf(g, 'POST', `/v1/apply?confirm=${time}`), [400, 'bad-request'], time)
    }
    t.same(await problemOf(g, 'POST', '/v1/apply?confrm=60s'), [400, 'bad-request'])
    t.match(await g.egress25('apply', '--confirm', '4s'), { code: 2, stderr: /from 5s to 1h/ })
  })

  const [second, third] = [
    { ...OPENED, from: '100.64.9.8' },
    { ...OPENED, from: '100.64.9.7' },
  ]
  let lasting = ruleset?.digest
  await t.test('not confirmed', async (t) => {
    // Confirmed just before; when its time is over, nothing happens.
    await open(g, 'third', third.from)
    let ofThird = 0
    for (let seconds = 5; ; seconds *= 2) {
      t.equal((await g.ask('POST', `/v1/apply?confirm=${seconds}s`)).status, 200)
      ofThird = performance.now() + seconds * 1_000
      if ((await g.ask('POST', '/v1/confirm')).status === 200) break
    }
    lasting = (await statusOf(g)).ruleset?.digest
    await g.client.connectAll(Array.from({ length: 9 }, () => CLOSED))
    const attemptsOf = async () => (await g.get('/v1/sources/100.64.1.2'))['attempts'] as number
    const counted = await until('the count', async () => {
      const found = await attemptsOf()
      return found >= 9 && found
    })
    await open(g, 'second', second.from)
    const start = performance.now()
    const { pending } = JSON.parse((await g.ask('POST', '/v1/apply?confirm=5s')).text)
    isOpen(t, await g.client.connect(second), start + 5_000)
    await until('the end', async () => (await g.client.connect(second)) === 'reset')
    const seconds = (performance.now() - start) / 1_000
    t.ok(seconds >= 5, `after ${seconds} s`)
    await until('the news', async () => (await takenBack(g)).some(({ id }) => id === pending.id))
    t.match(
      (await takenBack(g)).at(-1),
      { id: pending.id, by: 'deadline' },
      'by the service, not by the guard',
    )
    t.ok((await attemptsOf()) >= counted, 'counters survive')
    const status = await statusOf(g)
    t.match(status, { pending: null, held: { id: pending.id }, in_sync: true, drift: 0 })
    t.equal(status.ruleset?.digest, lasting)
    t.equal(await digestOfBootFile(state(g)), lasting)
    await wait(Math.max(1, ofThird + 100 - performance.now()))
    t.same(
      await g.client.connectAll([OPENED, third, CLOSED]),
      ['connected', 'connected', 'reset'],
      'what was confirmed stays',
    )
    const files = await readdir(state(g))
    for (const file of ['pending', 'guard', 'unconfirmed.nft', 'confirmed'])
      t.notOk(files.includes(file), file)
  })

  await t.test('what was taken back stays away until somebody wants it', async (t) => {
    service.kill('SIGHUP')
    await until('the refusal', async () => (await g.log()).includes('are those that were taken back'))
    t.same(
      await problemOf(g, 'PUT', '/v1/exemptions/x', { sources: ['100.64.7.7'] }),
      [409, 'policies-held'],
      'nor does it come along with another change',
    )
    t.equal(await g.client.connect(second), 'reset')
    t.equal(await g.stop(service), 0)
    const again = await g.start()
    t.match(
      await statusOf(g),
      { ruleset: { how: 'unchanged', digest: lasting }, pending: null, held: { id: String } },
      'the documents from before are known',
    )
    t.same(await g.client.connectAll([second, OPENED, CLOSED]), ['reset', 'connected', 'reset'])
    t.match(await g.egress25('apply', '--confirm', '1h'), { code: 0 })
    t.equal(await g.client.connect(second), 'connected')
    t.match(await g.egress25('rollback'), { code: 0, stdout: /from before are in force/ })
    t.equal(await g.client.connect(second), 'reset', 'at once')
    t.match(await g.egress25('apply'), { code: 0 })
    t.equal(await g.client.connect(second), 'connected')
    t.match(await statusOf(g), { pending: null, held: null })
    await g.http.untilOk('http://127.0.0.1:7025/readyz', PATIENCE)
    t.equal(await g.stop(again), 0)
  })

  await t.test('taken back without having changed anything it holds nothing up', async (t) => {
    const again = await g.start()
    t.match(await g.egress25('apply', '--confirm', '1h'), { code: 0 })
    t.match(await g.egress25('rollback'), { code: 0 })
    t.match(await statusOf(g), { pending: null, held: null, in_sync: true })
    t.equal((await g.ask('POST', '/v1/apply')).status, 200)
    const dry = '/v1/exemptions/x?dry_run=true'
    t.equal((await g.ask('PUT', dry, { sources: ['100.64.7.7'] })).status, 200)
    t.equal(await g.stop(again), 0)
  })
})

t.test('the service is killed: the guard takes the change back', { buffered: true }, async (t) => {
  const g = await gateway(t)
  const service = await g.start()
  await open(g)
  const start = performance.now()
  t.equal((await g.ask('POST', '/v1/apply?confirm=5s')).status, 200)
  t.equal(await g.stop(service, 'SIGKILL'), 'SIGKILL')
  const [opened, closed] = await g.client.connectAll([OPENED, CLOSED])
  isOpen(t, opened, start + 5_000)
  t.equal(closed, 'reset')
  const seconds = await secondsUntilClosed(g, start)
  t.ok(seconds >= 5, `after ${seconds} s`)
  t.equal(await g.client.connect(CLOSED), 'reset')

  const second = await g.start()
  t.match(await statusOf(g), {
    pending: null,
    held: { id: String },
    ruleset: { digest: await digestOfBootFile(state(g)) },
  })
  t.same(await g.client.connectAll([OPENED, CLOSED]), ['reset', 'reset'], 'the new service holds it')
  t.match(await g.log(), 'are those that were taken back')
  await open(g, 'other', '100.64.9.8')
  t.match(await g.egress25('apply'), { code: 0 })
  await g.http.untilOk('http://127.0.0.1:7025/readyz', PATIENCE)
  t.match(await statusOf(g), { held: null, in_sync: true })

  // What changed nothing holds nothing up, when the guard has taken it back.
  t.equal((await g.ask('POST', '/v1/apply?confirm=5s')).status, 200)
  t.equal(await g.stop(second, 'SIGKILL'), 'SIGKILL')
  await until('the guard', async () => {
    const files = await readdir(state(g))
    return files.includes('rolled-back') && !files.includes('guard')
  })
  await g.start()
  t.match(await statusOf(g), { pending: null, held: null, in_sync: true })
  t.equal(await g.client.connect(OPENED), 'connected')
})

t.test('the service is started anew: it goes on waiting', { buffered: true }, async (t) => {
  const g = await gateway(t)
  const first = await g.start()
  await open(g)
  const start = performance.now()
  const { pending } = JSON.parse((await g.ask('POST', '/v1/apply?confirm=20s')).text)
  t.equal(await g.stop(first), 0)
  const second = await g.start()
  const found = await statusOf(g)
  t.match(found, { pending: { id: pending.id }, ruleset: { how: 'unchanged' } })
  t.ok((found.pending?.seconds_left ?? 20) < 20)
  t.same(await problemOf(g, 'POST', '/v1/apply'), [409, 'confirmation-pending'])
  isOpen(t, await g.client.connect(OPENED), start + 20_000)
  const seconds = await secondsUntilClosed(g, start)
  t.ok(seconds >= 20, `after ${seconds} s`)
  const before = await digestOfBootFile(state(g))
  const taken = await until('the documents from before', async () => {
    const now = await statusOf(g)
    return now.held !== null && now.ruleset?.digest === before && now
  })
  t.match(taken, { pending: null, held: { id: pending.id } })

  t.equal((await g.ask('POST', '/v1/apply?confirm=5m')).status, 200)
  t.equal(await g.stop(second, 'SIGKILL'), 'SIGKILL')
  await g.start('/healthz')
  t.match(await g.egress25('confirm'), { code: 0 }, 'a change of the service before can be confirmed')
  t.equal(await digestOfBootFile(state(g)), (await statusOf(g)).ruleset?.digest)
  t.match(await statusOf(g), { pending: null, held: null, in_sync: true })
  t.equal(await g.client.connect(OPENED), 'connected')
})

t.test(
  'the service hangs: the guard takes it back, and the service learns of it',
  { buffered: true },
  async (t) => {
    const g = await gateway(t)
    const service = await g.start()
    await open(g)
    const start = performance.now()
    const { pending } = JSON.parse((await g.ask('POST', '/v1/apply?confirm=8s')).text)
    service.kill('SIGSTOP')
    const seconds = await secondsUntilClosed(g, start)
    t.ok(seconds >= 8, `after ${seconds} s`)
    service.kill('SIGCONT')
    await until('the news', async () => (await takenBack(g)).length > 0)
    t.match(await takenBack(g), [{ id: pending.id, by: 'guard' }])
    // As long as the service would need to put back what somebody else had changed.
    await wait(2_500)
    t.match(await statusOf(g), { pending: null, held: { id: pending.id }, in_sync: true, drift: 0 })
    t.same(await g.client.connectAll([OPENED, CLOSED]), ['reset', 'reset'])
    t.equal((await statusOf(g)).ruleset?.digest, await digestOfBootFile(state(g)))
  },
)

t.test('without a service', { buffered: true }, async (t) => {
  const g = await gateway(t)
  const start = performance.now()
  t.match(await g.egress25('apply', '--confirm', '6s'), { code: 0, stdout: /taken back in/ })
  const closed = await g.client.connect(CLOSED)
  t.ok(closed === 'reset' || performance.now() >= start + 6_000, 'in force until then')
  await until('the end', async () => (await g.client.connect(CLOSED)) === 'connected')
  const seconds = (performance.now() - start) / 1_000
  t.ok(seconds >= 6, `after ${seconds} s, though nothing was ever confirmed`)
  t.equal(await g.nft('list', 'tables'), '', 'our table is gone')

  t.match(await g.egress25('apply', '--confirm', '5m'), { code: 0 })
  t.match(await g.egress25('apply'), { code: 1, stderr: /waits for its confirmation/ })
  t.match(await g.egress25('confirm'), { code: 0 })
  t.ok(await digestOfBootFile(state(g)))
  t.equal(await g.client.connect(CLOSED), 'reset')

  await open(g)
  t.match(await g.egress25('apply', '--confirm', '5m', '--json'), { code: 0, stdout: /"seconds_left":/ })
  t.equal(await g.client.connect(OPENED), 'connected')
  t.match(await g.egress25('rollback'), { code: 0 })
  t.equal(await g.client.connect(OPENED), 'reset')
  t.match(await g.egress25('rollback'), { code: 1, stderr: /the last one was taken back/ })

  t.test('after a reboot there is nothing to confirm', async (t) => {
    t.match(await g.egress25('apply', '--confirm', '5m'), { code: 0 })
    await g.nft('flush', 'ruleset')
    await g.nft('-f', join(state(g), 'ruleset.nft'))
    t.equal(await g.client.connect(OPENED), 'reset')
    t.match(await g.egress25('confirm'), { code: 1, stderr: /was taken back/ })
    t.equal(await g.client.connect(OPENED), 'reset')
  })
})

/** A controller in this process, whose nft and guard work in a gateway's namespace. */
async function controllerIn(
  test: Test,
  options: { run?: ProcessRunner; trial?: Partial<TrialOptions> } = {},
) {
  // Torn down the other way round: nothing is written any more when the folder goes.
  const directory = await mkdtemp(join(tmpdir(), 'egress25-confirm-'))
  test.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 9 }))
  const lab = await openLab()
  test.teardown(() => lab.close())
  const policies = join(directory, 'policies')
  const stateDirectory = join(directory, 'state')
  await mkdir(policies)
  await writeFile(join(policies, 'policy.yaml'), 'kind: policy\nname: p\nnetworks: [100.64.0.0/10]\n')
  const inside: ProcessRunner = (argv, how) => runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], how)
  const reopen = (more: Partial<TrialOptions> = {}, run = options.run ?? inside) => {
    const enforcer = new Enforcer(openNft(run), stateDirectory)
    const controller = new Controller({
      directory: policies,
      compile: DEFAULT_COMPILE_OPTIONS,
      enforcer,
      staysOn: true,
      trial: { stateDirectory, findGuard: guardIn(lab), ...options.trial, ...more },
      findUserIds: async () => new Map(),
      now: Date.now,
    })
    return { controller, enforcer }
  }
  return {
    lab,
    directory,
    stateDirectory,
    inside,
    open: reopen,
    write: (source: string) => writeFile(join(policies, 'opened.yaml'), exemption('opened', source)),
    file: (name: string) => readFile(join(stateDirectory, name), 'utf8').catch(() => null),
    /** What the kernel holds, and what it would after a reboot. */
    digests: async (enforcer: Enforcer) => [
      (await enforcer.readState())?.digest ?? null,
      await digestOfBootFile(stateDirectory),
    ],
  }
}

const guardIn =
  (lab: Lab, env = process.env): FindGuard =>
  async (files, pending) => {
    lab.spawn(lab.gateway, [GUARD, files.directory], { stdio: 'ignore', env })
    if (!(await answers(files, pending, PATIENCE))) throw new Error('the guard does not answer')
  }

t.test(
  'confirmation and deadline at the same moment: one wins, and all agree',
  { buffered: true },
  async (t) => {
    const c = await controllerIn(t)
    const { controller, enforcer } = c.open()
    await controller.apply()
    const won = { confirmation: 0, guard: 0 }
    for (let round = 0; round < 30; round++) {
      const before = controller.inForce?.applied.digest
      await c.write(`100.64.9.${round}`)
      const { applied } = await controller.applyOnTrial(60)
      const [id, seconds, , digest] = ((await c.file('pending')) ?? '').trim().split(' ')
      t.equal(digest, applied.digest)
      // A deadline long past, and a guard that learns of it just when the confirmation comes.
      await writeFile(join(c.stateDirectory, 'pending'), `${id} ${seconds} 1 ${digest}\n`)
      const guard = c.lab.spawn(c.lab.gateway, [GUARD, c.stateDirectory], { stdio: 'ignore' })
      const ended = new Promise((resolve) => guard.once('exit', resolve))
      await wait(round % 10)
      const confirmed = await controller.confirm().then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof NothingPendingError)) throw error
          return false
        },
      )
      await ended
      won[confirmed ? 'confirmation' : 'guard']++
      const expected = confirmed ? digest : before
      t.same(await c.digests(enforcer), [expected, expected], `round ${round}: the kernel and the boot file`)
      t.equal(controller.inForce?.applied.digest, expected)
      t.equal(controller.trial.pending, null)
      t.equal(controller.trial.held?.id ?? null, confirmed ? null : id)
      t.equal((await c.file('rolled-back')) === null, confirmed)
      for (const file of ['pending', 'confirmed']) t.equal(await c.file(file), null, file)
    }
    t.comment(won)
    t.equal(won.confirmation + won.guard, 30)
  },
)

t.test('nft fails for a while: it is tried until it works', { buffered: true }, async (t) => {
  t.test('by the service', async (t) => {
    let failures = 0
    const stuck: Error[] = []
    const c = await controllerIn(t)
    const { controller, enforcer } = c.open({ onStuck: (_, error) => stuck.push(error) }, (argv, how) => {
      if (argv.includes('-f') && failures > 0) {
        failures--
        return Promise.resolve({ code: 1, stdout: '', stderr: 'Error: not today\n' })
      }
      return c.inside(argv, how)
    })
    const { applied: before } = await controller.apply()
    await c.write('100.64.9.9')
    await controller.applyOnTrial(5)
    failures = Number.POSITIVE_INFINITY
    await t.rejects(
      until('a change', async () => {
        await wait(200)
        await controller.exclusively(async () => {})
        return stuck.length > 1 && controller.apply()
      }),
      { message: /waits for its confirmation/ },
      'nothing else is done before',
    )
    failures = 2
    await until('the rules from before', async () => {
      await controller.exclusively(async () => {})
      return controller.trial.pending === null
    })
    t.same(await c.digests(enforcer), [before.digest, before.digest])
    t.equal(controller.inForce?.applied.digest, before.digest)
  })

  t.test('by the guard', async (t) => {
    const c = await controllerIn(t)
    const bin = join(c.directory, 'bin')
    await mkdir(bin)
    await writeFile(
      join(bin, 'nft'),
      `#!/bin/sh\necho failed >>"${bin}/tries"\n[ "$(wc -l <"${bin}/tries")" -gt 2 ] || exit 1\nexec /usr/sbin/nft "$@"\n`,
    )
    await chmod(join(bin, 'nft'), 0o755)
    const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}` }
    const { controller, enforcer } = c.open({ findGuard: guardIn(c.lab, env) })
    const { applied: before } = await controller.apply()
    await c.write('100.64.9.9')
    // As if the service died here: nobody looks any more.
    const start = performance.now()
    const { applied } = await controller.applyOnTrial(5)
    controller.exclusively(() => new Promise(() => {}))
    const onTrial = await c.digests(enforcer)
    if (performance.now() < start + 5_000) t.same(onTrial, [applied.digest, before.digest])
    await until('the rules from before', async () => (await c.digests(enforcer))[0] === before.digest)
    t.equal((await readFile(join(bin, 'tries'), 'utf8')).split('\n').length - 1, 3)
    await until('the end of the guard', async () => (await c.file('guard')) === null)
  })
})

// Neither the service nor the guard asks what time it is: the one has a timer and performance.now(), both of the
// kernel's monotonic clock, the other /proc/uptime and sleep(1).
t.test('the clock is stepped meanwhile: nothing changes', { buffered: true }, async (t) => {
  const c = await controllerIn(t)
  const bin = join(c.directory, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'date'), `#!/bin/sh\ntouch "${bin}/asked"\n`, { mode: 0o755 })
  const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}` }
  const { controller, enforcer } = c.open({ findGuard: guardIn(c.lab, env) })
  const { applied: before } = await controller.apply()
  const { now } = Date
  t.teardown(() => {
    Date.now = now
  })
  for (const [step, source] of [
    [-86_400_000, '100.64.9.1'],
    [86_400_000, '100.64.9.2'],
  ] as const) {
    await c.write(source)
    const start = performance.now()
    const { applied } = await controller.applyOnTrial(5)
    Date.now = () => now() + step
    await wait(500)
    const onTrial = await c.digests(enforcer)
    if (performance.now() < start + 5_000) t.same(onTrial, [applied.digest, before.digest], 'still waiting')
    for (; controller.trial.pending !== null && performance.now() - start < PATIENCE; await wait(20));
    Date.now = now
    const seconds = (performance.now() - start) / 1_000
    t.ok(seconds >= 5, `after ${seconds} s`)
    t.same(await c.digests(enforcer), [before.digest, before.digest])
  }
  t.notOk((await readdir(bin)).includes('asked'), 'the guard does not ask for the time')
})

t.test('what a crash leaves behind is brought to its end', { buffered: true }, async (t) => {
  const c = await controllerIn(t)
  const first = c.open()
  const { applied: before } = await first.controller.apply()
  const line = (digest: string, deadline = Math.ceil(uptime()) + 60) =>
    `0123456789abcdef 60 ${deadline} ${digest}\n`
  const put = (name: string, text: string) => writeFile(join(c.stateDirectory, name), text)
  const change = async (source: string) => {
    await c.write(source)
    const { enforcer, controller } = c.open()
    const plan = await controller.applyOnTrial(60)
    const script = (await c.file('unconfirmed.nft')) ?? ''
    return { enforcer, digest: plan.applied.digest, script }
  }

  t.test('between the claim and the boot file of a confirmation', async (t) => {
    const { digest, script } = await change('100.64.9.1')
    await rm(join(c.stateDirectory, 'pending'))
    await put('confirmed', line(digest))
    await put('unconfirmed.nft', script)
    const { controller, enforcer } = c.open()
    await controller.exclusively(async () => {})
    t.same(await c.digests(enforcer), [digest, digest])
    t.equal(await c.file('confirmed'), null)
  })

  t.test('between the claim and the kernel of a rollback', async (t) => {
    const [confirmed] = await c.digests(first.enforcer)
    const { digest } = await change('100.64.9.2')
    await rm(join(c.stateDirectory, 'pending'))
    await put('rolled-back', line(digest))
    const { controller, enforcer } = c.open()
    await t.rejects(controller.applyUnlessHeld(), { message: /were taken back/ })
    t.same(await c.digests(enforcer), [confirmed, confirmed])
  })

  t.test('a change that never reached the kernel, is overdue, or is of an earlier boot', async (t) => {
    for (const [why, deadline, isInForce] of [
      ['not in the kernel', Math.ceil(uptime()) + 60, false],
      ['overdue', 1, true],
      ['of an earlier boot', Math.ceil(uptime()) + 4_000, true],
    ] as const) {
      const [confirmed] = await c.digests(first.enforcer)
      const { digest } = isInForce ? await change('100.64.9.3') : { digest: 'f'.repeat(32) }
      await put('pending', line(digest, deadline))
      const { controller, enforcer } = c.open()
      await controller.exclusively(async () => {})
      t.same(await c.digests(enforcer), [confirmed, confirmed], why)
      t.equal(controller.trial.pending, null)
      t.equal(controller.trial.held?.digest, digest)
      t.equal(await c.file('pending'), null)
    }
  })

  t.test('no guard, no change', async (t) => {
    const { controller, enforcer } = c.open({
      findGuard: () => Promise.reject(new UnguardedError('nobody watches')),
    })
    const known = await c.digests(enforcer)
    await c.write('100.64.9.4')
    await t.rejects(controller.applyOnTrial(60), { message: 'nobody watches' })
    t.same(await c.digests(enforcer), known)
    t.equal(controller.trial.pending, null)
    t.equal(await c.file('pending'), null)
    t.not(known[0], before.digest)
  })
})

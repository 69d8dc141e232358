/** What a program that was killed has left at work never comes after what was done next. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openLab } from '../../scripts/lab/lab.ts'
import { sendSignal } from '../../scripts/lab/process.ts'
import { compile } from '../../src/compile/compile.ts'
import { digestOf } from '../../src/compile/nft-script.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { waitForFolder } from '../../src/kernel/lock.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const GUARD = join(ROOT, 'scripts/rollback-guard')

async function rulesetOf(...sources: string[]) {
  const exemption = `---\nkind: exemption\nname: e\nsources: [${sources.join(', ')}]\n`
  const text = `kind: policy\nname: p\nnetworks: [100.64.0.0/10]\n${sources.length > 0 ? exemption : ''}`
  const overlay = new Map([['policies.yaml', text]])
  const { model } = await loadPolicies(import.meta.dirname, { now: Date.now(), overlay })
  if (model === null) throw new Error('these policies are not sound')
  return compile(model, DEFAULT_COMPILE_OPTIONS)
}

async function place(test: Test) {
  const lab = await openLab()
  test.teardown(() => lab.close())
  const directory = await mkdtemp(join(tmpdir(), 'egress25-turns-'))
  test.teardown(() => rm(directory, { recursive: true, force: true }))
  const state = join(directory, 'state')
  await mkdir(state)
  const run: ProcessRunner = (argv, options) =>
    runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], options)
  /** Holds the folder as an nft at work does, until it is ended. */
  const atWork = async () => {
    const holder = lab.spawn(lab.gateway, ['flock', '--no-fork', state, 'sleep', '1000'], { stdio: 'ignore' })
    await until('its lock', () =>
      waitForFolder(state, 0).then(
        () => false,
        () => true,
      ),
    )
    return holder
  }
  return { lab, directory, state, run, atWork, enforcer: new Enforcer(openNft(run), state) }
}

t.test('an nft that outlives its program is waited for, and named', async (t) => {
  const { state, run, atWork, enforcer } = await place(t)
  await enforcer.apply(await rulesetOf())
  const next = await rulesetOf('100.64.9.9')
  const holder = await atWork()
  await t.rejects(waitForFolder(state, 50), { message: /process \d+\) is changing the rules/ })
  const applied = new Enforcer(openNft(run), state).apply(next)
  t.not((await enforcer.readState())?.digest, digestOf(next))
  sendSignal(-(holder.pid ?? 0), 'SIGKILL')
  t.equal((await applied).digest, (await enforcer.readState())?.digest)
})

t.test('the guard of a change comes after it, too', async (t) => {
  const { lab, state, atWork, enforcer } = await place(t)
  const confirmed = (await enforcer.apply(await rulesetOf())).digest
  const { digest } = await enforcer.applyUntilBoot(await rulesetOf('100.64.9.9'))
  // Overdue, and nobody else is there to take it back.
  await writeFile(join(state, 'pending'), `0123456789abcdef 60 1 ${digest}\n`)
  const holder = await atWork()
  const guard = lab.spawn(lab.gateway, [GUARD, state], { stdio: 'ignore' })
  const ended = once(guard, 'exit')
  const { ino } = await stat(state)
  await until('its turn', async () =>
    new RegExp(`-> FLOCK .*:${ino} `).test(await readFile('/proc/locks', 'utf8')),
  )
  t.equal((await enforcer.readState())?.digest, digest, 'not before what is at work has come to its end')
  sendSignal(-(holder.pid ?? 0), 'SIGKILL')
  t.same(await ended, [0, null])
  t.equal((await enforcer.readState())?.digest, confirmed)
})

t.test('a program reads all of its input or nothing, whatever becomes of us', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'egress25-turns-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const [go, out] = [join(directory, 'go'), join(directory, 'out')]
  const size = 3_000_000
  const reader = `echo; until [ -e ${go} ]; do sleep 0.05; done; cat >${out}.new; mv ${out}.new ${out}`
  const script = `import { runProcess } from ${JSON.stringify(join(ROOT, 'src/kernel/process.ts'))}
    await runProcess(['sh', '-c', ${JSON.stringify(reader)}], { input: 'x'.repeat(${size}), timeout: 60_000,
      onStart: () => process.stdout.write('started') })`
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(parent.stdout, 'data')
  const gone = once(parent, 'exit')
  parent.kill('SIGKILL')
  await gone
  await writeFile(go, '')
  const read = await until('what it reads', () => readFile(out, 'utf8').catch(() => null))
  t.equal(read.length, size)
})

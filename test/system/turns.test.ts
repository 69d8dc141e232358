/** What a program that was killed has left behind: it never comes after what was done next, nor in its way. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openLab } from '../../scripts/lab/lab.ts'
import { sendSignal } from '../../scripts/lab/process.ts'
import { compile } from '../../src/compile/compile.ts'
import { digestOf } from '../../src/compile/nft/digest.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { waitForFolder } from '../../src/kernel/lock.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { keepReady } from '../../src/kernel/ready-process.ts'
import { runByShells } from '../../src/kernel/resident-shell.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { beforeItsEnd, untilItEnds } from './ends.ts'
import { gateway, ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const EXEMPTION = '---\nkind: exemption\nname: e\nsources: [100.64.9.9]\n'
const GUARD = join(ROOT, 'scripts/rollback-guard')

/** With a policy, and with what else there is. */
async function compiled(...documents: string[]) {
  const text = `kind: policy\nname: p\nnetworks: [100.64.0.0/10]\n${documents.join('')}`
  const overlay = new Map([['policies.yaml', text]])
  const { model } = await loadPolicies(import.meta.dirname, { now: Date.now(), overlay })
  if (model === null) throw new Error('these policies are not sound')
  return compile(model, DEFAULT_COMPILE_OPTIONS)
}

async function place(test: Test) {
  // Torn down the other way round: nothing is written any more when the folder goes.
  const directory = await mkdtemp(join(tmpdir(), 'egress25-turns-'))
  test.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 9 }))
  const lab = await openLab()
  test.teardown(() => lab.close())
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
  await enforcer.apply(await compiled())
  const next = await compiled(EXEMPTION)
  const holder = await atWork()
  await t.rejects(waitForFolder(state, 50), { message: /process \d+\) is changing the rules/ })
  const applied = new Enforcer(openNft(run), state).apply(next)
  t.not((await enforcer.readState())?.digest, digestOf(next))
  sendSignal(-(holder.pid ?? 0), 'SIGKILL')
  t.equal((await applied).digest, (await enforcer.readState())?.digest)
})

t.test('the guard of a change comes after it, too', async (t) => {
  const { lab, state, atWork, enforcer } = await place(t)
  const confirmed = (await enforcer.apply(await compiled())).digest
  const { digest } = await enforcer.applyUntilBoot(await compiled(EXEMPTION))
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
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 9 }))
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

/** The shell that waits below a process; null when none does. */
async function waitingBelow(pid: number): Promise<number | null> {
  const pids = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  for (const child of pids.split(' ').filter(Boolean)) {
    const words = await readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')
    if (words.startsWith('sh\0-c\0read -r go ')) return Number(child)
  }
  return null
}

t.test('a program that is kept ready is the program, in all that can become of it', async (t) => {
  const run = keepReady()
  const argv = ['sh', '-c', 'echo $$; cat; exit 3'] as const
  const input = "'$(id)\n".repeat(2_000)
  let [ready, started] = [0, 0]
  const onStart = (pid: number) => {
    started = pid
  }
  const options = { timeout: 60_000, input, onStart }
  for (let round = 0; round < 3; round++) {
    const { code, stdout } = await run([...argv], options)
    t.same([code, stdout], [3, `${started}\n${input}`])
    if (round > 0) t.equal(started, ready, 'by the process that was waiting')
    ready = await until('the next one', () => waitingBelow(process.pid))
  }
  t.equal((await run(['sh', '-c', 'cat'], options)).stdout, input, 'another is not mistaken for it')
  t.not(started, ready)
  sendSignal(ready, 'SIGKILL')
  ready = await until('one in its place', async () => {
    const found = await waitingBelow(process.pid)
    if (found === null) await run([...argv], options)
    return found !== ready && found
  })
  const slow = ['sh', '-c', 'cat; exec sleep 1000'] as const
  const end = (timeout: number, onStart: (pid: number) => void) =>
    run([...slow], { ...options, timeout, onStart })
  const faultOf = ({ fault }: { fault: string }) => fault
  const killed = end(60_000, (pid) => setTimeout(sendSignal, 100, pid, 'SIGTERM'))
  t.equal(await killed.catch(faultOf), 'signal')
  t.equal(await end(200, () => {}).catch(faultOf), 'timeout')
})

t.test('what is kept ready goes with its program, and holds it up no longer than it works', async (t) => {
  const script = `import { keepReady } from ${JSON.stringify(join(ROOT, 'src/kernel/ready-process.ts'))}
    const run = keepReady()
    for (const input of ['1', '2']) {
      const { stdout } = await run(['cat'], { input, timeout: 60_000 })
      process.stdout.write(stdout)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    if (process.argv[1] === 'stay') setInterval(() => {}, 1000)`
  for (const then of ['go', 'stay']) {
    const argv = ['--input-type=module', '-e', script, then]
    const parent = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    const gone = once(parent, 'exit')
    let said = ''
    parent.stdout.on('data', (text) => {
      said += text
    })
    await until('its work', async () => said === '12')
    const pid = await until(
      'what waits',
      async () => (await waitingBelow(parent.pid ?? 0)) ?? parent.exitCode === 0,
    )
    if (then === 'stay') parent.kill('SIGKILL')
    t.same(await gone, then === 'stay' ? [null, 'SIGKILL'] : [0, null])
    if (typeof pid === 'number') await until('its end', async () => !sendSignal(pid, 0))
  }
})

t.test('a program that a shell starts is the program, in all that can become of it', async (t) => {
  const run = runByShells()
  const options = { timeout: 60_000 }
  const asks = async (words: readonly string[], more = {}) =>
    run(['sh', '-c', ...words], { ...options, ...more })
  const strange = ['', ' a  b ', '$(id)`id`', '\\n\\', '"\'', '*', '-n', 'ä€', 'two\nlines']
  const { stdout } = await run(
    [process.execPath, '-p', 'JSON.stringify(process.argv.slice(1))', '--', ...strange],
    options,
  )
  t.same(JSON.parse(stdout), strange)
  t.same(await asks(['cat; echo out; echo err >&2; printf end; exit 7']), {
    code: 7,
    stdout: 'out\nend',
    stderr: 'err\n',
  })
  t.equal((await asks(['printf %s "$ODD"'], { env: { ODD: " '$(id)\\" } })).stdout, " '$(id)\\")
  t.equal((await asks(['printf %s "$ODD"'])).stdout, '', 'nothing of it is left for the next one')
  const much = await asks(['yes | head -c 3000000; yes no | head -c 3000000 >&2'])
  t.same([much.stdout, much.stderr], ['y\n'.repeat(1_500_000), 'no\n'.repeat(1_000_000)])
  const bytes = await asks(["printf '\\000\\377\\n'"], { encoding: 'latin1' })
  t.equal(bytes.stdout, '\0\xff\n')
  const faultOf = ({ fault }: { fault: string }) => fault
  t.equal(await asks(['kill -SEGV $$']).catch(faultOf), 'signal')
  t.equal(await asks(['sleep 1000'], { timeout: 200 }).catch(faultOf), 'timeout')
  t.equal(await asks(['yes'], { maxOutput: 1_000 }).catch(faultOf), 'output')
  t.equal(await run(['no-such-program'], options).catch(faultOf), 'missing')
  t.equal(await run(['times'], options).catch(faultOf), 'missing', 'what only shells know is none')
  t.equal((await asks(['exit 127'])).code, 127)
  const shellOf = async () => Number((await asks(['echo $PPID'])).stdout)
  const shell = await shellOf()
  t.not(shell, process.pid)
  t.equal(await shellOf(), shell, 'the same one serves the next')
  sendSignal(shell, 'SIGKILL')
  await until('its end', async () => !sendSignal(shell, 0))
  const next = await shellOf()
  t.not(next, shell)
  t.not(next, process.pid)
  const together = await Promise.all(Array.from({ length: 6 }, (_, n) => asks([`sleep 0.1; echo ${n}`])))
  t.same(
    together.map(({ stdout }) => Number(stdout)),
    [0, 1, 2, 3, 4, 5],
  )
})

t.test('a shell that starts programs goes with its service, and does not hold it up', async (t) => {
  const script = `import { runByShells } from ${JSON.stringify(join(ROOT, 'src/kernel/resident-shell.ts'))}
    const { stdout } = await runByShells()(['sh', '-c', 'echo $PPID'], { timeout: 60_000 })
    process.stdout.write(stdout)
    if (process.argv[1] === 'stay') setInterval(() => {}, 1000)`
  for (const then of ['go', 'stay']) {
    const argv = ['--input-type=module', '-e', script, then]
    const parent = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
    const gone = once(parent, 'exit')
    const [said] = await once(parent.stdout, 'data')
    if (then === 'stay') parent.kill('SIGKILL')
    t.same(await gone, then === 'stay' ? [null, 'SIGKILL'] : [0, null])
    await until('its end', async () => !sendSignal(Number(said), 0))
  }
})

t.test('whoever listens for a service goes with it, also as root, and the next one can', async (t) => {
  const g = await gateway(t)
  const listening = async () =>
    until('somebody who listens', async () => {
      const { events } = (await g.get('/v1/status')) as { events: { listening: boolean } }
      return events.listening
    })
  const childrenOf = async (pid: number) => {
    const pids = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ')
    const names = await Promise.all(pids.map((one) => readFile(`/proc/${one}/comm`, 'utf8').catch(() => '')))
    return pids.flatMap((one, at) => (/^(tcpdump|socat)\n/.test(names[at] ?? '') ? [Number(one)] : []))
  }
  const service = await g.start()
  await listening()
  const listeners = await until('both of them', async () => {
    const found = await childrenOf(service.pid ?? 0)
    return found.length === 2 && found
  })
  await g.stop(service, 'SIGKILL')
  await until('their end', async () => !listeners.some((pid) => sendSignal(pid, 0)))
  const next = await g.start()
  await listening()
  t.equal(await g.client.connect({ from: '100.64.7.7', to: '203.0.113.9', port: 25 }), 'reset')
  await until('the attempt in detail', async () => {
    const { items } = (await g.get('/v1/attempts')) as { items: readonly { source: string }[] }
    return items.some(({ source }) => source === '100.64.7.7')
  })
  t.equal(await g.stop(next), 0)
})

t.test('an exemption ends when it ends: nobody prolongs it by applying, restarting or booting', async (t) => {
  const { lab, state, run, enforcer } = await place(t)
  await (await lab.probe(lab.internet)).listen([25])
  const client = await lab.client()
  const connect = (from: string) => client.connect({ from, to: '203.0.113.9', port: 25, timeoutMs: 10_000 })
  const [ending, staying] = ['100.64.9.9', '100.64.9.8']
  const { end, done } = await beforeItsEnd(async (end) => {
    const expires = `\nexpires: ${new Date(end).toISOString().replace('.000', '')}`
    const exemptions = (hosts: readonly string[]) =>
      hosts.map(
        (host, at) =>
          `---\nkind: exemption\nname: e${at}\nsources: [${host}]${host === ending ? expires : ''}\n`,
      )
    const first = await compiled(...exemptions([ending]))
    await enforcer.apply(first)
    const before = await connect(ending)
    const again = await enforcer.apply(first)
    const byNext = await new Enforcer(openNft(run), state).apply(first)
    const withChange = await enforcer.apply(await compiled(...exemptions([ending, staying])))
    await enforcer.restore('everything')
    return [before, again.how, byNext.how, withChange.how, await connect(ending)]
  })
  t.same(done, ['connected', 'unchanged', 'unchanged', 'delta', 'connected'])
  await untilItEnds(end)
  t.same([await connect(ending), await connect(staying)], ['reset', 'connected'])
  await enforcer.restore('everything')
  t.same([await connect(ending), await connect(staying)], ['reset', 'connected'], 'written anew')
  await lab.exec(lab.gateway, ['nft', 'flush', 'ruleset'])
  await lab.exec(lab.gateway, ['nft', '-f', join(state, 'ruleset.nft')])
  t.same([await connect(ending), await connect(staying)], ['reset', 'connected'], 'after a boot')
})

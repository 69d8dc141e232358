/**
 * A machine whose clock is wrong, is set, or stood still while it was off: an emulated one, with Debian's kernel, the real
 * rules and the real service in it. The clock of the machine that runs the tests is never touched.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openLab } from '../../scripts/lab/lab.ts'
import { openMachine } from '../../scripts/lab/machine.ts'
import { cables, defaultPrefixes, places, setUp } from '../../scripts/lab/topology.ts'
import { bundle } from '../../scripts/lib/build.ts'
import { COMMAND, ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const MODULES = [
  ...['nf_tables', 'nft_ct', 'nft_limit', 'nft_log', 'nft_reject_inet', 'nft_hash', 'nft_objref'],
  ...['nft_chain_nat', 'nft_nat', 'nft_redir', 'nfnetlink_log', 'nf_conntrack_netlink', 'veth'],
]
const PROGRAMS = ['nft', 'ip', 'socat', 'tcpdump', 'setpriv', 'flock', 'conntrack', 'node']

/** When the machine is switched on. */
const CLOCK = '2030-01-01T10:00:00'
const NOON = Date.parse('2030-01-01T12:00:00Z') / 1_000
const DAY = 86_400

/** Seconds that a change is on trial, and that the guard leaves to the service then. */
const ON_TRIAL_FOR = 8
const GRACE = 2
/** Milliseconds for what takes an emulated machine long, on a machine that is busy. */
const LONG = 600_000

const exemption = (name: string, source: string, expires?: string) =>
  `kind: exemption\nname: ${name}\nsources: [${source}]\n${expires === undefined ? '' : `expires: ${expires}\n`}`

const POLICIES = [
  'kind: policy\nname: residential\nnetworks: [100.64.0.0/10]\n',
  exemption('forever', '100.64.9.1'),
  exemption('until-noon', '100.64.9.2', '2030-01-01T12:00:00Z'),
  exemption('ended-while-off', '100.64.9.3', '2030-01-01T09:59:59Z'),
].join('---\n')

/** Nobody is exempt here; and what a change on trial opens. */
const CLOSED = '100.64.1.2'
const FOREVER = '100.64.9.1'
const UNTIL_NOON = '100.64.9.2'
const ENDED_WHILE_OFF = '100.64.9.3'
const ON_TRIAL = '100.64.9.4'
const SOURCES = [CLOSED, FOREVER, UNTIL_NOON, ENDED_WHILE_OFF]

/** What the built command reads beside itself. */
const BESIDE = ['scripts/rollback-guard', 'src/alerts/texts', 'package.json'].map((path) => join(ROOT, path))

const PROBE = `for source; do
  if socat -u OPEN:/dev/null TCP4:203.0.113.9:25,bind=$source,connect-timeout=10 2>/run/refusal; then
    echo connected
  elif grep -q 'Connection refused' /run/refusal; then
    echo reset
  else
    head -1 /run/refusal
  fi
done
`

const skip = process.arch === 'x64' ? false : 'machines are emulated on x86-64 only'

t.test('a machine whose clock jumps', { skip }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'egress25-clock-'))
  t.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 9 }))
  const [policies, state, config] = ['policies', 'state', 'egress25.yaml'].map((name) =>
    join(directory, name),
  )
  if (policies === undefined || state === undefined || config === undefined) throw new Error('no names')
  await mkdir(policies)
  await writeFile(join(policies, 'policies.yaml'), POLICIES)
  await writeFile(config, JSON.stringify({ policies: { directory: policies }, state: { directory: state } }))

  // An earlier life of the gateway, before any of the exemptions had ended, leaves the rules for the next boot.
  const lab = await openLab()
  const applied = await lab.exec(lab.gateway, [COMMAND, '-c', config, 'apply'])
  await lab.close()
  t.match(applied, { code: 0 }, applied.stderr)

  const machine = await openMachine({
    clock: CLOCK,
    modules: MODULES,
    programs: PROGRAMS,
    copies: [directory, ...BESIDE],
    files: {
      // An emulated machine takes minutes to strip the types of hundreds of files.
      ...Object.fromEntries((await bundle()).map(({ path, text }) => [path, text])),
      '/lab/probe': PROBE,
      '/lab/cables': cables((place) => place),
      ...Object.fromEntries(places.map((place) => [`/lab/${place}`, setUp(place, defaultPrefixes)])),
    },
  })
  t.teardown(() => machine.close())
  const { must } = machine
  const inside = (command: string) => must(`ip netns exec gateway ${command}`)

  await must('ip -batch /lab/cables')
  for (const place of places) await must(`ip netns exec ${place} sh /lab/${place}`)
  await must('ip netns exec internet socat -u TCP4-LISTEN:25,fork,reuseaddr OPEN:/dev/null >/dev/null 2>&1 &')

  const now = async () => Number(await must('date +%s'))
  const uptime = async () => Number((await must('cat /proc/uptime')).split(' ')[0])
  const set = (seconds: number) => must(`date -s @${Math.round(seconds)}`)
  /** What becomes of connections from the sources to a mail server on the internet. */
  const connectAll = async (...sources: string[]) =>
    (await must(`ip netns exec subscribers sh /lab/probe ${sources.join(' ')}`)).trim().split('\n')
  const connect = async (source: string) => (await connectAll(source))[0]
  const all = async () => {
    const [closed, forever, untilNoon, endedWhileOff] = await connectAll(...SOURCES)
    return { closed, forever, untilNoon, endedWhileOff }
  }
  const ended = { closed: 'reset', forever: 'connected', untilNoon: 'reset', endedWhileOff: 'reset' }
  const before = { ...ended, untilNoon: 'connected' }
  /** The answer's status and body; null when nobody answers. */
  const ask = async (method: 'GET' | 'POST', path: string) => {
    const request = `${method} ${path} HTTP/1.0\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n`
    const { output } = await machine.run(
      `printf '${request}' | ip netns exec gateway socat -,ignoreeof TCP4:127.0.0.1:7025 2>/dev/null`,
    )
    const status = /^HTTP\/1\.\d (\d+)/.exec(output)?.[1]
    return { status: Number(status ?? 0), body: output.slice(output.indexOf('\r\n\r\n') + 4) }
  }
  await until('the internet', async () => (await connect(CLOSED)) === 'connected')

  await t.test('a boot, with nft alone', async (t) => {
    // The command of egress25-boot.service.
    await inside(`nft -f - <${state}/ruleset.nft`)
    t.same(await all(), before, 'what ended while the machine was off has ended')
  })

  await t.test('the clock is set, and the service is not there', async (t) => {
    await set(NOON)
    t.same(await all(), ended)
    await set(NOON - DAY)
    t.same(await all(), { ...before, endedWhileOff: 'connected' }, 'an end is a time of the clock')
    await set(NOON + DAY)
    await inside(`nft -f - <${state}/ruleset.nft`)
    t.same(await all(), ended, 'loading the rules anew gives no time')
    await set(NOON - 3_600)
    t.same(await all(), before, 'nor has it taken any')
  })

  const serve = () =>
    must(
      // Nothing here runs long enough for compiled code to be worth its price.
      `setsid ip netns exec gateway node --jitless ${join(ROOT, 'built/cli.js')} -c ${config} serve >>/log 2>&1 & echo $! >/pid`,
    )
  /** Whoever asks again and again takes the only processor away from who is to answer: it is waited for in there. */
  const itself = (condition: string) => must(`until ${condition}; do sleep 1; done`, LONG)
  const ready = async () => {
    await itself(`grep -q 'egress25 is running' /log || ! kill -0 $(cat /pid)`)
    if ((await machine.run('kill -0 $(cat /pid)')).code !== 0) throw new Error(await must('cat /log'))
    await until('readiness', async () => (await ask('GET', '/readyz')).status === 200)
  }

  await t.test('the service starts by a wrong clock, and changes something', async (t) => {
    await set(NOON + DAY)
    await serve()
    await ready()
    t.match(JSON.parse((await ask('GET', '/v1/status')).body), {
      in_sync: true,
      ruleset: { how: 'replacement' },
    })
    t.same(await all(), ended)
    await must(`printf '${exemption('other', '100.64.9.9').replaceAll('\n', '\\n')}' >${policies}/other.yaml`)
    t.match(await ask('POST', '/v1/apply'), { status: 200 })
    t.equal(await connect('100.64.9.9'), 'connected')
    t.same(await all(), ended)
    await set(NOON - 3_600)
    t.same(await all(), before, 'the clock is right again: so is the end')
    t.match(JSON.parse((await ask('GET', '/v1/status')).body), { in_sync: true, drift: 0 })
    await set(NOON - 5)
    const last = { open: 0, closed: 0 }
    await until('noon', async () => {
      const time = await now()
      if ((await connect(UNTIL_NOON)) === 'connected') {
        last.open = time
        return false
      }
      last.closed = await now()
      return true
    })
    t.ok(last.open < NOON && last.closed >= NOON, `open at ${last.open}, closed at ${last.closed}`)
  })

  /** A change on trial for so many seconds since then is taken back after them, whatever the clock says meanwhile; when. */
  const takenBackInTime = async (t: Test, start: number) => {
    await set((await now()) + DAY)
    const open = await connect(ON_TRIAL)
    t.ok(open === 'connected' || (await uptime()) >= start + ON_TRIAL_FOR, 'not before its time')
    await set((await now()) - DAY - 3_600)
    await itself(`ip netns exec subscribers sh /lab/probe ${ON_TRIAL} | grep -q reset`)
    const end = await uptime()
    t.ok(end >= start + ON_TRIAL_FOR)
    return end
  }

  await t.test('the living service takes a change back in time', async (t) => {
    await must(
      `printf '${exemption('on-trial', ON_TRIAL).replaceAll('\n', '\\n')}' >${policies}/on-trial.yaml`,
    )
    const start = await uptime()
    t.match(await ask('POST', `/v1/apply?confirm=${ON_TRIAL_FOR}s`), { status: 200 })
    const end = await takenBackInTime(t, start)
    await itself(`grep -q 'unconfirmed change.*taken back' /log`)
    const by = /"by":"(\w+)".*unconfirmed change.*taken back/.exec(await must('cat /log'))?.[1]
    // A machine that is too busy for the service to be in time leaves it to the guard.
    t.ok(by === 'deadline' || end > start + ON_TRIAL_FOR + GRACE, `by ${by} after ${end - start} s`)
  })

  await t.test('the guard of a dead service does, too', async (t) => {
    const start = await uptime()
    t.match(await ask('POST', `/v1/apply?confirm=${ON_TRIAL_FOR}s`), { status: 200 })
    await must('kill -9 $(cat /pid)')
    await takenBackInTime(t, start)
    t.equal(await connect('100.64.9.9'), 'connected', 'what was confirmed stays')
  })
})

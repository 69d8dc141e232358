/** What is installed on a gateway: the units, their sandbox, what a boot does, and the installer itself. */
import {
  appendFile,
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { openHttp } from '../../scripts/lab/http.ts'
import { openLab } from '../../scripts/lab/lab.ts'
import { mustRun, run } from '../../scripts/lab/process.ts'
import { makeMachine } from './machine.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const SERVICES = ['egress25.service', 'egress25-boot.service', 'egress25-rollback.service'] as const
const UNITS = [...SERVICES, 'egress25-rollback.path'] as const
const NPM_TIMEOUT = 180_000

const POLICY = `kind: policy
name: residential
networks: [100.64.0.0/10, "2001:db8:100::/40"]
`
/** With an npm that stands in for the real one. */
const INSTALL = ['env', `PATH=/opt:${process.env['PATH']}`, join(ROOT, 'scripts/install')]
const SECRET = 'a secret of the NOC'
const ALERTS = `alerts:
  - name: noc
    type: webhook
    url: http://127.0.0.1:7099/
    secret_file: /run/credentials/egress25.service/noc
`
const BLOCKED = { from: '100.64.1.2', to: '203.0.113.9', port: 25 }
const BLOCKED6 = { from: '2001:db8:100::2', to: '2001:db8:ffff::9', port: 25 }
const SUBMISSION = { ...BLOCKED, port: 587 }

/** Without privileges but the one that the units leave. */
const ONLY_NET_ADMIN = [
  'setpriv',
  '--inh-caps=-all,+net_admin',
  '--ambient-caps=-all,+net_admin',
  '--bounding-set=-all,+net_admin',
  '--no-new-privs',
]
/** A user that nobody is. */
const UID = 64_025

// Each has a place of its own, and waits a lot.
t.jobs = 3

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

/** A folder that other users can read, gone when the test ends. */
async function folder(test: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'egress25-systemd-'))
  test.teardown(() => rm(path, { recursive: true, force: true, maxRetries: 9 }))
  await chmod(path, 0o755)
  return path
}

async function until<T>(
  what: string,
  ask: () => Promise<T | null | undefined | false>,
  timeout = 60_000,
): Promise<T> {
  for (const deadline = Date.now() + timeout; ; await wait(50)) {
    const found = await ask()
    if (found) return found
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`)
  }
}

/** As an npm that brings what a release needs from the packages that are here: that npm does it is shown without a machine. */
const NPM_FROM_HERE = `#!${join(ROOT, 'node_modules/.bin/node')}
const { cpSync, existsSync, readFileSync } = require('node:fs')
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'))
const needed = Object.keys(packages).filter((path) => path !== '' && !packages[path].dev && !packages[path].devOptional)
for (const path of ['node_modules/.bin', ...needed]) {
  if (existsSync(${JSON.stringify(ROOT)} + path))
    cpSync(${JSON.stringify(ROOT)} + path, path, { recursive: true, verbatimSymlinks: true })
}
`

/** As an npm that brings the packages that the release before has: they are the same files. */
const npmLike = (library: string) =>
  `#!/bin/sh\n[ "$1" = ci ] && exec cp -al '${library}/current/node_modules' .\nexit 1\n`

const install = (root: string, env: NodeJS.ProcessEnv = {}) =>
  run([join(ROOT, 'scripts/install'), '--root', root], {
    timeoutMs: NPM_TIMEOUT,
    env: { ...process.env, ...env },
  })

/** The settings of a unit file by name; of several of one name, all. */
async function settingsOf(unit: string): Promise<Map<string, string[]>> {
  const settings = new Map<string, string[]>()
  for (const line of (await readFile(join(ROOT, 'systemd', unit), 'utf8')).split('\n')) {
    const [, name, value] = /^(\w+)=(.*)$/.exec(line) ?? []
    if (name !== undefined && value !== undefined) settings.set(name, [...(settings.get(name) ?? []), value])
  }
  return settings
}

t.test('the units are tight', async (t) => {
  for (const unit of SERVICES) {
    // The score is multiplied by ten in --threshold: 2.0.
    const { code, stdout, stderr } = await run([
      'systemd-analyze',
      'security',
      '--offline=yes',
      '--threshold=20',
      '--no-pager',
      join(ROOT, 'systemd', unit),
    ])
    t.equal(code, 0, `${unit} is exposed by at most 2.0: ${/level.*/.exec(stdout)?.[0] ?? stderr}`)
    const settings = await settingsOf(unit)
    t.same(settings.get('CapabilityBoundingSet'), ['CAP_NET_ADMIN'])
    t.notOk(settings.has('ExecStop') || settings.has('ExecStopPost'), `stopping ${unit} starts nothing`)
  }
})

t.test('scripts/install --root', async (t) => {
  const root = join(await folder(t), 'root')
  const { code, stdout, stderr } = await install(root)
  t.equal(code, 0, stderr)
  t.match(stdout, 'systemd-sysusers egress25.conf')

  const egress25 = join(root, 'usr/bin/egress25')
  t.equal((await mustRun([egress25, 'version'])).trim(), '0.1.0', 'what is installed runs')
  const library = join(root, 'usr/lib/egress25')
  const release = join(library, 'current')
  t.notOk((await readdir(join(release, 'node_modules'))).includes('tap'), 'only what it needs to run')
  t.ok((await readdir(join(release, 'built'))).includes('cli.js'), 'put together, so that it starts at once')
  const handbook = join(root, 'usr/share/doc/egress25')
  for (const name of await readdir(join(ROOT, 'docs')))
    t.ok((await readdir(handbook)).includes(name), `the handbook has ${name}`)
  t.same(
    (await readdir(join(root, 'usr/lib/systemd/system'))).sort(),
    [...UNITS].sort(),
    'the units are there',
  )
  const config = join(root, 'etc/egress25/egress25.yaml')
  const policies = join(root, 'etc/egress25/policies')
  t.match(await mustRun([egress25, 'check', policies]), /^ok: /, 'the example policies are sound')
  await mustRun([egress25, '-c', config, 'compile', policies])

  await t.test('every setting in the example configuration is one that egress25 knows', async (t) => {
    const example = (await readFile(config, 'utf8')).replaceAll(/^#(?! )|^#(?= {2})/gm, '')
    t.match(example, /^alerts:$/m)
    const file = join(await folder(t), 'egress25.yaml')
    await writeFile(file, example)
    await mustRun([egress25, '-c', file, 'compile', policies])
  })

  const before = await readdir(join(library, 'releases'))
  await appendFile(config, 'gateway: gw-of-ours\n')
  await rm(join(policies, 'residential.yaml'))

  t.test('an upgrade that fails leaves everything as it was', async (t) => {
    const bin = await folder(t)
    await writeFile(join(bin, 'npm'), '#!/bin/sh\necho no registry today >&2\nexit 1\n', { mode: 0o755 })
    const failed = await install(root, { PATH: `${bin}:${process.env['PATH']}` })
    t.equal(failed.code, 1)
    t.match(failed.stderr, 'no registry today')
    t.same(await readdir(join(library, 'releases')), before)
    t.equal((await mustRun([egress25, 'version'])).trim(), '0.1.0')
  })

  t.test('an upgrade replaces the program, not what people wrote', async (t) => {
    const bin = await folder(t)
    await writeFile(join(bin, 'npm'), npmLike(library), { mode: 0o755 })
    t.equal((await install(root, { PATH: `${bin}:${process.env['PATH']}` })).code, 0)
    const after = await readdir(join(library, 'releases'))
    t.equal(after.length, 2, 'the release before is kept')
    t.notOk(before.includes((await mustRun(['readlink', release])).trim().replace('releases/', '')))
    t.match(await readFile(config, 'utf8'), /^gateway: gw-of-ours$/m)
    t.notOk((await readdir(policies)).includes('residential.yaml'))
    t.equal((await mustRun([egress25, 'version'])).trim(), '0.1.0')
  })

  t.test('wrong usage', async (t) => {
    for (const args of [['--root'], ['--root='], ['--destdir', root]]) {
      const wrong = await run([join(ROOT, 'scripts/install'), ...args])
      t.equal(wrong.code, 2, args.join(' '))
      t.match(wrong.stderr, /^install: .*usage: /)
    }
  })
})

t.test('an unprivileged process with CAP_NET_ADMIN alone', async (t) => {
  const lab = await openLab()
  t.teardown(() => lab.close())
  const client = await lab.client()
  await (await lab.probe(lab.internet)).listen([25, 587])

  const place = await folder(t)
  await mkdir(join(place, 'policies'))
  await writeFile(join(place, 'policies/policy.yaml'), POLICY)
  await mkdir(join(place, 'state'))
  for (const path of ['policies', 'state']) await chown(join(place, path), UID, UID)
  const script = join(place, 'script')
  const told = join(place, 'state/told')
  const attempt = '/usr/sbin/nft delete table inet egress25 2>&1'
  await writeFile(script, `#!/bin/sh\n{ cat /proc/self/status; ${attempt}; echo "nft: $?"; } >'${told}'\n`, {
    mode: 0o755,
  })
  const config = join(place, 'egress25.yaml')
  await writeFile(
    config,
    JSON.stringify({
      policies: { directory: join(place, 'policies') },
      state: { directory: join(place, 'state') },
      alerts: [{ name: 'script', type: 'exec', command: [script], timeout: '1m' }],
    }),
  )
  const egress25 = [join(ROOT, 'scripts/egress25'), '-c', config]

  t.test('enforces, listens, and tells systemd how it is', async (t) => {
    const socket = join(place, 'notify')
    // Prints each datagram, a line each.
    const listener = lab.spawn(lab.gateway, [
      'perl',
      '-MSocket',
      '-e',
      '$| = 1; socket(S, PF_UNIX, SOCK_DGRAM, 0) && bind(S, pack_sockaddr_un($ARGV[0])) or die $!;' +
        'chmod 0777, $ARGV[0]; print "open\n"; while (defined recv(S, $m, 8192, 0)) { print "$m\n" }',
      socket,
    ])
    const heard: string[] = []
    createInterface({ input: listener.stdout! }).on('line', (line) => heard.push(line))
    const toldOf = (what: string) => until(what, async () => heard.includes(what))
    await toldOf('open')

    const service = lab.spawn(
      lab.gateway,
      [...ONLY_NET_ADMIN, `--reuid=${UID}`, `--regid=${UID}`, '--clear-groups', ...egress25, 'serve'],
      { stdio: 'ignore', env: { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000000' } },
    )
    const ended = new Promise((resolve) => service.once('exit', resolve))
    await toldOf('READY=1')
    t.same(await client.connectAll([BLOCKED, BLOCKED6, SUBMISSION]), ['reset', 'reset', 'connected'])
    await toldOf('WATCHDOG=1')
    const status = await until('the attempts in detail', async () => {
      const { stdout } = await lab.exec(lab.gateway, [...egress25, 'status', '--json'])
      const found = JSON.parse(stdout)
      return found.events.received === 2 && found.attempts.total === 2 && found
    })
    t.match(status, { in_sync: true, events: { listening: true, lost: 0 } })
    const state = await lstat(join(place, 'state/ruleset.nft'))
    t.equal(state.uid, UID, 'it is another user indeed')

    const tried = await lab.exec(lab.gateway, [...egress25, 'alerts', 'test', 'script'], {
      timeoutMs: 120_000,
    })
    t.equal(tried.code, 0, tried.stderr)
    const said = await readFile(told, 'utf8')
    // What bounds it is as it was, and without new privileges nothing leads there.
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
      t.match(said, new RegExp(`^${set}:\\s+0+$`, 'm'))
    t.match(said, /^NoNewPrivs:\s+1$/m)
    t.match(said, new RegExp(`^Uid:\\s+${UID}\\s`, 'm'))
    t.match(said, /^nft: [1-9]/m, "a program of the operator's cannot touch the rules")
    t.equal(await client.connect(BLOCKED), 'reset')

    service.kill('SIGTERM')
    t.equal(await ended, 0)
    await toldOf('STOPPING=1')
    t.same(
      await client.connectAll([BLOCKED, BLOCKED6, SUBMISSION]),
      ['reset', 'reset', 'connected'],
      'the rules stay',
    )
  })

  t.test('the boot unit loads what apply kept, with nft alone', async (t) => {
    // Each writing of the table has a name of its own.
    const list = async () =>
      (await lab.exec(lab.gateway, ['nft', 'list', 'table', 'inet', 'egress25'])).stdout
        .replace(/era-\w+/, 'era')
        .replace(/0x00000000 : [^,]+,/, '')
    await lab.exec(lab.gateway, ['nft', 'flush', 'ruleset'])
    t.equal(await client.connect(BLOCKED), 'connected')
    const applied = await lab.exec(lab.gateway, [...egress25, 'apply'])
    t.equal(applied.code, 0, applied.stderr)
    const table = await list()
    await lab.exec(lab.gateway, ['nft', 'flush', 'ruleset'])

    const settings = await settingsOf('egress25-boot.service')
    const input =
      settings.get('StandardInput')?.[0]?.replace('file:/var/lib/egress25', join(place, 'state')) ?? ''
    t.match(input, /^\//)
    const environment = settings.get('Environment') ?? []
    const loaded = await lab.exec(
      lab.gateway,
      ['env', '-i', ...environment, ...ONLY_NET_ADMIN, ...(settings.get('ExecStart')?.[0] ?? '').split(' ')],
      { input: await readFile(input, 'utf8') },
    )
    t.equal(loaded.code, 0, loaded.stderr)
    t.equal(await list(), table)
    t.same(await client.connectAll([BLOCKED, BLOCKED6, SUBMISSION]), ['reset', 'reset', 'connected'])
  })
})

t.test('on a machine that runs systemd', async (t) => {
  const lab = await openLab()
  t.teardown(() => lab.close())
  const client = await lab.client()
  await (await lab.probe(lab.internet)).listen([25, 587])
  const http = openHttp(lab, lab.gateway)
  const machine = await makeMachine(lab, ROOT)
  t.teardown(() => machine.remove())
  await machine.boot()

  const write = (path: string, text: string) =>
    machine.mustRun(['sh', '-c', 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1"', 'write', path, text])
  const show = async (unit: string, property: string) =>
    (await machine.mustRun(['systemctl', 'show', '--value', '--property', property, unit])).trim()
  const mainPid = async () => {
    const pid = await show('egress25', 'MainPID')
    if (pid === '0') throw new Error('the service does not run')
    return pid
  }
  const closed = async (t: Test, why: string) =>
    t.same(await client.connectAll([BLOCKED, BLOCKED6, SUBMISSION]), ['reset', 'reset', 'connected'], why)

  t.test('scripts/install', async (t) => {
    await write('/opt/npm', NPM_FROM_HERE)
    await machine.mustRun(['chmod', '755', '/opt/npm'])
    t.match(await machine.mustRun(INSTALL, NPM_TIMEOUT), 'enable --now egress25-boot egress25')
    t.equal(
      (
        await machine.mustRun(['stat', '-c', '%U:%G %a', '/etc/egress25/policies', '/var/lib/egress25'])
      ).trim(),
      'egress25:egress25 750\negress25:egress25 2750',
    )
    const verified = await machine.run(['systemd-analyze', 'verify', ...UNITS])
    t.same(verified, { code: 0, stdout: '', stderr: '' }, 'systemd-analyze verify has nothing to say')
    await machine.mustRun(['egress25', 'check', '/etc/egress25/policies'])
    t.equal(await show('egress25-rollback.path', 'ActiveState'), 'active')
    t.equal(await show('egress25-rollback.path', 'UnitFileState'), 'enabled')
  })

  t.test('the service starts, confined', async (t) => {
    await machine.mustRun(['find', '/etc/egress25/policies', '-mindepth', '1', '-delete'])
    await write('/etc/egress25/policies/policy.yaml', POLICY)
    await write('/etc/egress25/secrets/noc', SECRET)
    await machine.mustRun(['chmod', '-R', 'go=', '/etc/egress25/secrets'])
    await write(
      '/etc/systemd/system/egress25.service.d/test.conf',
      '[Service]\nWatchdogSec=6s\nTimeoutAbortSec=1s\nLoadCredential=noc:/etc/egress25/secrets/noc\n',
    )
    const config = '/etc/egress25/egress25.yaml'
    await write(config, `${await machine.mustRun(['cat', config])}\n${ALERTS}`)
    t.equal(await client.connect(BLOCKED), 'connected')
    await machine.mustRun(['systemctl', 'enable', '--now', 'egress25-boot', 'egress25'])
    await closed(t, 'ready means in force')
    t.equal(await show('egress25-boot', 'ConditionResult'), 'no', 'there was nothing to load yet')

    const main = await mainPid()
    const child = (program: string) =>
      until(program, async () =>
        (await machine.run(['pgrep', '--newest', '--parent', main, '-x', program])).stdout.trim(),
      )
    for (const pid of [main, await child('tcpdump'), await child('socat')]) {
      const status = await machine.mustRun(['cat', `/proc/${pid}/status`])
      const value = (name: string) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(status)?.[1]
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
        t.equal(value(set), '0000000000001000', `${set}: CAP_NET_ADMIN`)
      t.equal(value('NoNewPrivs'), '1')
      t.equal(value('Seccomp'), '2')
      t.equal(value('Uid'), (await machine.mustRun(['id', '-u', 'egress25'])).trim())
    }
    // As root, so that only the mounts can refuse.
    const inside = (...argv: string[]) => machine.run(['nsenter', '--target', main, '--mount', ...argv])
    for (const path of ['/etc/egress25/x', '/usr/lib/egress25/x', '/var/x', '/sys/x'])
      t.match((await inside('tee', '-a', path)).stderr, 'Read-only file system', path)
    for (const path of ['/var/lib/egress25/x', '/run/egress25/x', '/etc/egress25/policies/x'])
      t.equal((await inside('touch', path)).code, 0, path)
    t.equal((await inside('ls', '-A', '/root', '/home')).stdout, '/home:\n\n/root:\n')
    const forwarding = '/proc/sys/net/ipv4/ip_forward'
    t.equal((await inside('cat', forwarding)).code, 0, 'it sees whether the machine forwards')
    t.not((await inside('sh', '-c', `echo 0 > ${forwarding}`)).code, 0, 'and cannot change it')
  })

  t.test('everything works in there: packets in detail, documents, reload', async (t) => {
    const status = await until('an attempt in detail', async () => {
      await client.connect(BLOCKED)
      const found = JSON.parse(await machine.mustRun(['egress25', 'status', '--json']))
      return found.events.received > 0 && found
    })
    t.match(status, { in_sync: true, events: { listening: true } })
    const put = await http.ask('PUT', 'http://127.0.0.1:7025/v1/exemptions/acme', {
      headers: { 'if-none-match': '*' },
      body: { sources: [BLOCKED.from], reason: 'A mail server.', owner: 'noc@example.net' },
    })
    t.equal(put.status, 201, put.text)
    const page = await http.ask('GET', 'http://127.0.0.1:7025/dashboard/page.js')
    t.same([page.status, page.headers['content-type']], [200, 'text/javascript; charset=utf-8'])
    t.equal(await client.connect(BLOCKED), 'connected')
    const told: string[] = []
    await http.receive(7099, SECRET, ({ body }) => told.push(JSON.parse(body).event))
    await machine.mustRun(['egress25', 'alerts', 'test', 'noc'])
    // Who tried often enough is an incident, and told, too.
    await until('a message, signed with a credential that only root can read', async () =>
      told.includes('test'),
    )
    await machine.mustRun(['rm', '/etc/egress25/policies/exemptions/acme.yaml'])
    await machine.mustRun(['systemctl', 'reload', 'egress25'])
    await until('the reload', async () => (await client.connect(BLOCKED)) === 'reset')

    // A machine in a PID namespace: the kernel tells of changes by numbers that nobody knows here.
    const drift = async () => JSON.parse(await machine.mustRun(['egress25', 'status', '--json'])).drift
    t.equal(await drift(), 0, 'its own changes are its own')
    await machine.mustRun(['nft', 'flush', 'table', 'inet', 'egress25'])
    await until('the change by somebody else', async () => (await drift()) === 1)
    await until('the rules', async () => (await client.connect(BLOCKED)) === 'reset')
  })

  t.test('the journal knows how grave each line is', async (t) => {
    const slip = '/etc/egress25/policies/slip.yaml'
    const expected = `{ from: ${BLOCKED.from}, to: ${BLOCKED.to}, verdict: allow }`
    await write(
      slip,
      `kind: test\nname: slip\nexpect: [${expected}]\n---\nkind: exemption\nname: useless\nsources: [192.0.2.99]\n`,
    )
    await machine.mustRun(['systemctl', 'reload', 'egress25'])
    const levels = async (...options: string[]) => {
      const text = await machine.mustRun(['journalctl', '-u', 'egress25', '-o', 'cat', ...options])
      return text.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
    }
    const grave = await until('the mistake', async () => {
      const found = await levels('--priority', 'err')
      return found.some(({ msg }) => msg === 'policies not applied') && found
    })
    t.same([...new Set(grave.map(({ level }) => level))], [50])
    t.same(
      grave.map(({ msg }) => msg).filter((msg) => msg.startsWith('polic')),
      ['policy test failed', 'policies not applied'],
    )
    t.ok((await levels('--priority', 'warning')).some(({ msg }) => msg === 'policy warning'))
    t.ok((await levels()).some(({ level }) => level === 30))
    await machine.mustRun(['rm', slip])
    await machine.mustRun(['systemctl', 'reload', 'egress25'])
  })

  t.test('signs of life arrive; a hung service is replaced, and blocks meanwhile', async (t) => {
    const sign = () => show('egress25', 'WatchdogTimestampMonotonic')
    const before = await sign()
    await until('a sign of life', async () => (await sign()) !== before)
    t.equal(await show('egress25', 'NRestarts'), '0')
    await machine.mustRun(['kill', '-STOP', await mainPid()])
    await until('the watchdog', async () => (await show('egress25', 'NRestarts')) === '1')
    await closed(t, 'while it is down')
    await until('the new one', async () => (await show('egress25', 'ActiveState')) === 'active')
  })

  t.test('an unconfirmed change is taken back, whatever becomes of the service', async (t) => {
    const mx = { ...BLOCKED, from: '100.64.9.9' }
    const change = '/etc/egress25/policies/opened.yaml'
    const apply = ['egress25', 'apply', '--confirm', '5s']
    const stop = ['systemctl', 'stop', 'egress25']
    for (const [begin, end] of [
      [apply, ['systemctl', 'kill', '--signal', 'KILL', 'egress25']],
      [apply, stop],
      // Without the service, by somebody whose files nobody else can read.
      [['sh', '-c', `umask 077; ${stop.join(' ')} && ${apply.join(' ')}`], ['true']],
    ] as const) {
      await write(change, `kind: exemption\nname: opened\nsources: [${mx.from}]\n`)
      const start = performance.now()
      // On a busy machine it may be over before it is looked at.
      const isOver = () => performance.now() >= start + 5_000
      t.match(await machine.mustRun(begin), 'unless you confirm it')
      const [opened, closedAsBefore] = await client.connectAll([mx, BLOCKED])
      t.ok(opened === 'connected' || isOver(), `what is on trial is ${opened}`)
      t.equal(closedAsBefore, 'reset')
      const guard = await show('egress25-rollback', 'ActiveState')
      t.ok(guard === 'active' || isOver(), `a guard is ${guard}`)
      t.equal(await show('egress25-rollback', 'User'), 'egress25')
      await machine.mustRun(end)
      await until('the rules from before', async () => (await client.connect(mx)) === 'reset')
      await until('the end of the guard', async () => {
        return (await show('egress25-rollback', 'ActiveState')) === 'inactive'
      })
      t.equal(await show('egress25-rollback', 'Result'), 'success')
      await closed(t, [...begin, ...end].join(' '))
      await machine.mustRun(['rm', change])
      await machine.mustRun(['systemctl', 'start', 'egress25'])
      await machine.mustRun(['egress25', 'apply'])
    }
    t.match(await machine.mustRun(['journalctl', '-u', 'egress25-rollback']), 'was not confirmed in time')
    await until('a service that is ready', async () => {
      return (await machine.run(['egress25', 'status'])).code === 0
    })
  })

  t.test('an upgrade goes on beside the running service', async (t) => {
    const main = await mainPid()
    await write('/opt/npm', npmLike('/usr/lib/egress25'))
    await machine.mustRun(['chmod', '755', '/opt/npm'])
    t.match(await machine.mustRun(INSTALL, NPM_TIMEOUT), 'systemctl restart egress25')
    t.equal(await mainPid(), main)
    await machine.mustRun(['egress25', 'status'])
    await machine.mustRun(['systemctl', 'restart', 'egress25'])
    await closed(t, 'after the restart')
  })

  t.test('stopped, the rules stay; so they do when Debian reloads its own', async (t) => {
    await machine.mustRun(['systemctl', 'start', 'nftables', 'egress25-boot'])
    await machine.mustRun(['systemctl', 'stop', 'egress25'])
    t.equal(await show('egress25', 'Result'), 'success')
    await closed(t, 'after the stop')
    for (const verb of ['reload', 'restart']) {
      await machine.mustRun(['systemctl', verb, 'nftables'])
      await until(`the rules after ${verb}`, async () => (await client.connect(BLOCKED)) === 'reset')
    }
  })

  t.test('a boot closes port 25 before the network, without the service', async (t) => {
    await machine.mustRun(['systemctl', 'disable', 'egress25'])
    await machine.mustRun(['systemctl', 'enable', 'egress25-boot'])
    // As after `egress25 apply` by root with a strict umask: nobody but root may read it.
    await machine.mustRun(['chown', 'root:root', '/var/lib/egress25/ruleset.nft'])
    await machine.mustRun(['chmod', '600', '/var/lib/egress25/ruleset.nft'])
    await machine.cutPower()
    t.equal(await client.connect(BLOCKED), 'connected', 'the kernel is empty')
    await machine.boot()
    await closed(t, 'after the boot')
    t.equal(await show('egress25', 'ActiveState'), 'inactive')
    const time = async (unit: string) => Number(await show(unit, 'ActiveEnterTimestampMonotonic'))
    t.ok((await time('egress25-boot')) <= (await time('network-pre.target')), 'before network-pre.target')
    t.equal(await client.connect(BLOCKED), 'reset')
    await machine.mustRun(['systemctl', 'start', 'egress25'])
    const { attempts } = JSON.parse(await machine.mustRun(['egress25', 'status', '--json']))
    t.equal(attempts.total, 3, 'and what was counted before is taken over')
  })

  t.test('scripts/uninstall', async (t) => {
    // Where the machine keeps the program on a disk of its own; nobody can remove a mount point.
    await machine.mustRun(['umount', '--lazy', '/usr/lib/egress25'])
    await machine.mustRun([join(ROOT, 'scripts/uninstall')])
    await closed(t, 'removing the program opens nothing')
    for (const path of ['/etc/egress25/policies/policy.yaml', '/var/lib/egress25/ruleset.nft'])
      await machine.mustRun(['test', '-e', path])
    for (const unit of UNITS) t.equal((await machine.run(['systemctl', 'cat', unit])).code, 1, unit)
  })
})

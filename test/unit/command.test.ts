/** The command as a user meets it without root and without the service, and its configuration. */
import { spawn } from 'node:child_process'
import { chmod, cp, mkdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { parse } from 'yaml'
import { parseConfig } from '../../src/config/config.ts'
import type { ConfigError } from '../../src/config-error.ts'
import type { Incident } from '../../src/detect/incident.ts'
import { stageFile, writeFileAtomically } from '../../src/kernel/atomic-file.ts'
import { inTransaction, openDatabase } from '../../src/store/database.ts'
import { IncidentStore } from '../../src/store/incidents.ts'
import { COMMAND, directory, egress25, freePort, run } from './support.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const REVIEW = join(ROOT, 'scripts/review')
const EXAMPLE = new URL('../../policies', import.meta.url).pathname

const BAD = 'kind: policy\nname: p\nnetworks: [10.0.0.1/8]\nmod: x\n'
const GOOD = `kind: policy
name: p
networks: [10.0.0.0/8]
---
kind: test
name: t
expect:
  - { from: 10.0.0.1, to: 203.0.113.9, verdict: block }
  - { from: 10.0.0.1, to: 203.0.113.9, port: 587, verdict: allow }
`

t.test('check', { jobs: 2 }, async (t) => {
  const bad = await directory(t, { 'p.yaml': BAD })
  t.test('the example policies are sound', async (t) => {
    t.match(await egress25(['check', EXAMPLE]), { code: 0, err: '' })
  })
  t.test('diagnostics, a line each', async (t) => {
    const { code, out } = await egress25(['check', bad])
    t.equal(code, 1)
    t.same(
      out
        .trim()
        .split('\n')
        .map((line) => line.split(': ').slice(0, 2).join(' ')),
      ['p.yaml:3:12 host-bits', 'p.yaml:4:1 unknown-key'],
    )
  })
  t.test('as JSON', async (t) => {
    const { code, out } = await egress25(['check', bad, '--json'])
    t.equal(code, 1)
    t.match(JSON.parse(out), {
      diagnostics: [
        { file: 'p.yaml', line: 3, column: 12, code: 'host-bits', message: String },
        { file: 'p.yaml', line: 4, column: 1, code: 'unknown-key', message: String },
      ],
    })
  })
  t.test('with excerpts: the line, and a mark below what is meant', async (t) => {
    const { code, out } = await egress25(['check', bad, '--excerpts'])
    t.equal(code, 1)
    t.same(out.split('\n').slice(1, 3), [' 3 | networks: [10.0.0.1/8]', '   |            ^^^^^^^^^^'])
  })
  t.test('a policy for everybody is fine where the gateway knows what is outside', async (t) => {
    const root = await directory(t, {
      'policies/p.yaml': 'kind: policy\nname: p\nnetworks: [0.0.0.0/0]\n',
      'gw.yaml': 'firewall: { outside_interfaces: [wan0] }\n',
    })
    const policies = join(root, 'policies')
    t.match(await egress25(['check', policies]), {
      code: 0,
      out: /^p\.yaml:3:12: everyone-governed: warning: /,
    })
    t.notMatch((await egress25(['-c', join(root, 'gw.yaml'), 'check', policies])).out, /everyone/)
    const explain = ['-c', join(root, 'gw.yaml'), 'explain', policies, '10.0.0.1', '203.0.113.9']
    t.match(await egress25(explain), { out: /^block: .*wan0/ })
    t.match(await egress25([...explain, '--leaves-by', 'wan0']), { out: /^block: / })
    t.match(await egress25([...explain, '--leaves-by', 'lan0']), { out: /^allow: .*lan0/ })
  })
  t.test('no such directory is a mistake of usage', async (t) => {
    t.match(await egress25(['check', '/nonexistent']), { code: 2, err: /nonexistent/ })
  })
})

t.test('test, explain and compile', { jobs: 2 }, async (t) => {
  const good = await directory(t, { 'p.yaml': GOOD })
  const failing = await directory(t, { 'p.yaml': GOOD.replace('verdict: block', 'verdict: observe') })
  const bad = await directory(t, { 'p.yaml': BAD })
  t.test('tests that pass', async (t) => {
    t.match(await egress25(['test', good]), { code: 0, out: /2 passed, 0 failed\n$/ })
  })
  t.test('tests that fail', async (t) => {
    const { code, out } = await egress25(['test', failing, '--json'])
    t.equal(code, 1)
    t.match(JSON.parse(out).results, [
      { test: 't', passed: false, expected: 'observe', found: { verdict: 'block' }, file: 'p.yaml', line: 8 },
      { passed: true },
    ])
  })
  t.test('explain', async (t) => {
    const { code, out } = await egress25(['explain', good, '10.0.0.1', '203.0.113.9', '--json'])
    t.equal(code, 0)
    t.same(Object.keys(JSON.parse(out)), ['verdict', 'reason', 'document'])
    t.match(JSON.parse(out), {
      verdict: 'block',
      document: { kind: 'policy', name: 'p', file: 'p.yaml', line: 1 },
    })
    t.match(JSON.parse((await egress25(['explain', good, '8.8.8.8', '203.0.113.9', '--json'])).out), {
      verdict: 'ungoverned',
      document: null,
    })
    t.match(await egress25(['explain', good, '10.0.0.1', '203.0.113.9', '--port', '587']), {
      code: 0,
      out: /^allow: /,
    })
    t.match(await egress25(['explain', good, '10.0.0.300', '203.0.113.9']), { code: 2 })
    t.match(await egress25(['explain', good, '10.0.0.1', '203.0.113.9', '--port', '0']), { code: 2 })
    for (const pair of [
      ['10.0.0.1', '2001:db8::9'],
      ['2001:db8::1', '203.0.113.9'],
    ]) {
      t.match(await egress25(['explain', good, ...pair]), { code: 2, out: '' }, 'no such packet')
    }
  })
  t.test('without a directory: that of the configuration', async (t) => {
    const root = await directory(t, { 'policies/p.yaml': GOOD })
    const gw = join(root, 'gw.yaml')
    const [policies, state] = [join(root, 'policies'), join(root, 'state')]
    await writeFile(
      gw,
      JSON.stringify({
        policies: { directory: policies },
        state: { directory: state },
        api: { listen: [`unix:${root}/none`] },
      }),
    )
    const asked = (...argv: string[]) => egress25(['-c', gw, ...argv])
    t.match(await asked('check'), { code: 0, out: /ok: 1 policy/ })
    t.match(await asked('test'), { code: 0, out: /2 passed, 0 failed\n$/ })
    t.match(await asked('compile'), { code: 0, out: /^table inet egress25\n/ })
    const explained = await asked('explain', '10.0.0.1', '203.0.113.9', '--json')
    t.match(explained, { code: 0, err: /no service runs/ })
    t.match(JSON.parse(explained.out), { verdict: 'block', document: { name: 'p' } })
    t.match(await asked('explain', '10.0.0.1'), { code: 2 })
  })
  t.test('compile', async (t) => {
    t.match(await egress25(['compile', good]), {
      code: 0,
      out: /^table inet egress25\ndelete table inet egress25\n/,
    })
    t.match(await egress25(['compile', bad]), { code: 1, out: '', err: /host-bits/ })
  })
})

t.test('plan', { jobs: 2 }, async (t) => {
  const before = await directory(t, { 'p.yaml': GOOD })
  const after = await directory(t, {
    'p.yaml': `${GOOD}---\nkind: exemption\nname: e\nsources: [10.0.0.9]\n`,
  })
  const bad = await directory(t, { 'p.yaml': BAD })
  t.test('between two directories', async (t) => {
    const { code, out } = await egress25(['plan', '--from', before, after])
    t.equal(code, 0)
    t.match(out, /\+ exemption e \(p\.yaml:\d+\)/)
    t.match(out, /blocked -> allowed: 10\.0\.0\.9 \(1 address\)/)
    t.match(await egress25(['plan', '--from', before, before]), { code: 0, out: 'nothing would change\n' })
    t.match(await egress25(['plan', '--from', before, bad]), { code: 1, out: '', err: /host-bits/ })
  })
  t.test('as JSON and as Markdown', async (t) => {
    t.match(JSON.parse((await egress25(['plan', '--from', before, after, '--json'])).out), {
      documents: [{ change: 'added', kind: 'exemption', name: 'e' }],
      verdicts: [{ from: 'block', to: 'allow', sources: ['10.0.0.9'], addresses: '1' }],
      traffic: null,
    })
    t.match((await egress25(['plan', '--from', before, after, '--markdown'])).out, /\| `10\.0\.0\.9`/)
  })
  t.test('without a service there must be something to start from', async (t) => {
    const root = await directory(t, { 'c.yaml': 'api: { listen: ["unix:/nonexistent/api.sock"] }\n' })
    t.match(await egress25(['-c', join(root, 'c.yaml'), 'plan', after]), { code: 4, err: /--from/ })
  })
})

t.test('a change of policies in git is reviewed, by the recipe for CI', async (t) => {
  const root = await directory(t, { 'origin/policies/p.yaml': GOOD })
  const git = (...args: string[]) =>
    run('git', ['-C', root, '-c', 'user.name=t', '-c', 'user.email=t@example.net', ...args])
  await git('-C', 'origin', 'init', '--quiet', '--initial-branch=main')
  await git('-C', 'origin', 'add', '.')
  t.match(await git('-C', 'origin', 'commit', '--quiet', '-m', 'base'), { code: 0 })
  t.match(await git('clone', '--quiet', 'origin', 'work'), { code: 0 })
  await symlink(ROOT, join(root, 'work/.egress25'))
  const recipe = parse(await readFile(join(ROOT, 'docs/ci/github-actions.yml'), 'utf8'))
  const { run: script } = recipe.jobs.review.steps.find(({ id }: { id?: string }) => id === 'review')
  const review = async (base = 'main') => {
    const env = { ...process.env, BASE: base }
    const { code, err } = await run('bash', ['-c', `cd ${root}/work && ${script}`], { env })
    return { code, err, out: await readFile(join(root, 'work/review.md'), 'utf8') }
  }
  const write = (text: string) => writeFile(join(root, 'work/policies/p.yaml'), text)
  await write(GOOD.replace('[10.0.0.0/8]', '[10.0.0.0/9]'))
  const fine = await review()
  t.match(fine, {
    code: 0,
    out: /\| `10\.128\.0\.0\/9`.*\| blocked \| \*\*ungoverned\*\* \| anywhere \|/,
  })
  t.match(fine.out, /2 passed, 0 failed/)
  t.match(await readFile(join(root, 'work/results.xml'), 'utf8'), /<testsuite/)
  await write(GOOD.replace('verdict: block', 'verdict: allow'))
  t.match(await review(), { code: 1, out: /FAILED {2}t: 10\.0\.0\.1/ })
  await write(BAD)
  t.match(await review(), { code: 1, out: /p\.yaml:3:12: host-bits.*\^{10}/s })
  t.match(await review('no-such-branch'), { code: 2, err: /no-such-branch/ })
  t.match(await run(REVIEW, [root]), { code: 2 })
  t.equal((await git('-C', 'work', 'worktree', 'list')).out.trim().split('\n').length, 1, 'it cleans up')
})

t.test('usage and surroundings', { jobs: 2 }, async (t) => {
  t.test('unknown commands, options and missing arguments', async (t) => {
    for (const args of [['frobnicate'], ['check'], ['check', EXAMPLE, '--frob'], []]) {
      t.equal((await egress25(args)).code, 2, args.join(' '))
    }
    t.match(await egress25(['--help']), { code: 0, out: /check/ })
    const version = await egress25(['version'])
    t.match(version, { code: 0, out: /^\d+\.\d+\.\d+\n$/ })
    t.match(await egress25(['--version']), { code: 0, out: version.out })
    const { code, out } = await egress25(['version', '--json'])
    t.equal(code, 0)
    t.same(JSON.parse(out), { version: version.out.trim() })
  })
  t.test('no service to ask', async (t) => {
    const root = await directory(t, { 'c.yaml': 'api: { listen: ["unix:/nonexistent/api.sock"] }\n' })
    const { code, err } = await egress25(['-c', join(root, 'c.yaml'), 'status'])
    t.equal(code, 4)
    t.equal(err.split('/nonexistent/api.sock').length, 2, `it is named once: ${err}`)
  })
  t.test('what answers is another program', async (t) => {
    const port = await freePort()
    const server = createServer((_, response) => {
      response.writeHead(404, { 'content-type': 'text/html' }).end('<!DOCTYPE html>')
    }).listen(port, '127.0.0.1')
    t.teardown(() => server.close())
    const root = await directory(t, { 'c.yaml': `api: { listen: ["127.0.0.1:${port}"] }\n` })
    const { code, err } = await egress25(['-c', join(root, 'c.yaml'), 'status'])
    t.equal(code, 4)
    t.match(err, /^egress25: .*text\/html.*\n$/, 'one line')
  })
  t.test('nobody reads what is printed', async (t) => {
    const child = spawn(COMMAND, ['schema'], { stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.destroy()
    let err = ''
    child.stderr.on('data', (chunk) => (err += chunk))
    const code = await new Promise((resolve) => child.once('close', resolve))
    t.same([code, err], [0, ''])
  })
  t.test('a full disk where the answer should go', async (t) => {
    const shell = `${join(ROOT, 'scripts/egress25')} version > /dev/full`
    const { code, err } = await run('sh', ['-c', shell])
    t.equal(code, 2)
    t.match(err, /^egress25: .*ENOSPC\n$/)
  })
  t.test('wrong arguments of an exemption are named, and nothing is asked', async (t) => {
    const root = await directory(t, { 'c.yaml': 'api: { listen: ["unix:/nonexistent/api.sock"] }\n' })
    for (const [name, ...args] of [
      ['SOURCE', 'nope'],
      ['SOURCE', '10.0.0.1/8'],
      ['--to', '10.0.0.1', '--to', '::ffff:10.0.0.1'],
      ['--rate', '10.0.0.1', '--rate', 'often'],
      ['--until', '10.0.0.1', '--until', 'tomorrow'],
      ['--for', '10.0.0.1', '--for', 'ever'],
      ['--ticket', '10.0.0.1', '--ticket', ''],
    ] as const) {
      for (const how of ['add', 'request'] as const) {
        const { code, err } = await egress25(['-c', join(root, 'c.yaml'), 'exempt', how, ...args])
        t.equal(code, 2, err)
        t.match(err, `egress25: ${name} `)
      }
    }
    t.match(await egress25(['-c', join(root, 'c.yaml'), 'exempt', 'add', '10.0.0.1', '--name', 'Not One']), {
      code: 2,
      err: /--name/,
    })
  })
  t.test('a configuration with mistakes', async (t) => {
    const root = await directory(t, { 'c.yaml': 'gatway: x\napi: { listen: ["0.0.0.0:7025"] }\n' })
    const { code, err } = await egress25(['-c', join(root, 'c.yaml'), 'serve'])
    t.equal(code, 2)
    t.match(err, /c\.yaml:1:1: unknown-key/)
    t.match(err, /c\.yaml:2:17: bad-value: .*loopback/)
    t.match(await egress25(['-c', '/nonexistent.yaml', 'serve']), { code: 2, err: /nonexistent/ })
  })
})

t.test('configuration', async (t) => {
  t.test('everything has a default', async (t) => {
    t.match(parseConfig('c.yaml', ''), {
      policyDirectory: '/etc/egress25/policies',
      stateDirectory: '/var/lib/egress25',
      listen: [{ kind: 'tcp', host: '127.0.0.1', port: 7025 }],
      compile: { hooks: ['forward', 'output'], nflogGroup: 25, priority: -5, trackedSources: 65_536 },
    })
  })
  t.test('what cannot be honoured is refused, not ignored', async (t) => {
    for (const text of [
      'policies: { remote: "ext::sh -c true" }',
      'policies: { remote: "ssh://git@example.net/policies", history: "off" }',
      'policies: { remote: "https://h/p", require_signed_commits: true }',
      'policies: { remote: "https://h/p", require_signed_commits: true, allowed_keys: keys.asc }',
      'subscribers: [{ type: kea }]',
      'alerts: [{ name: a, type: pigeon, url: "http://127.0.0.1/" }]',
      'alerts: [{ name: a, type: webhook, url: "file:///etc/passwd" }]',
      'alerts: [{ name: a, type: webhook, url: "http://h/", limit: lots }]',
      'alerts: [{ name: a, type: webhook, url: "http://h/", quiet_hours: { from: "22:00", to: "24:00" } }]',
      'alerts: [{ name: a, type: webhook, url: "http://h/", quiet_hours: { from: "22:00", to: "06:00", zone: Mars } }]',
      'alerts: [{ name: a }]',
      'alerts: [{ name: a, type: webhook, url: "http://h/" }, { name: a, type: webhook, url: "http://h/" }]',
      'firewall: { outside_interfaces: ["eth0; drop"] }',
      'firewall: { tracked_sources: "65536" }',
      'api: { listen: ["192.0.2.1:7025"] }',
      'api: { listen: ["[::]:7025"] }',
      'api: { listen: ["127.0.0.1:0"] }',
      'state: { directory: relative }',
      'a: 1\n---\nb: 2',
    ]) {
      t.match(mistakesIn(text), [{ file: 'c.yaml', line: Number, code: String }], text)
    }
    t.match(parseConfig('c.yaml', 'api: { listen: ["[::1]:7025", "unix:/run/x.sock"] }').listen, [
      { kind: 'tcp', host: '::1', port: 7025 },
      { kind: 'unix', path: '/run/x.sock' },
    ])
  })
})

function mistakesIn(text: string) {
  try {
    parseConfig('c.yaml', text)
    return []
  } catch (error) {
    return (error as ConfigError).diagnostics
  }
}

t.test('files are whole or not there', async (t) => {
  const root = await directory(t, { 'f.txt': 'old' })
  const path = join(root, 'f.txt')
  const { readdir } = await import('node:fs/promises')
  const staged = await stageFile(path, 'new')
  t.equal(await readFile(path, 'utf8'), 'old')
  await staged.discard()
  t.same(await readdir(root), ['f.txt'])
  await writeFileAtomically(path, 'new')
  t.equal(await readFile(path, 'utf8'), 'new')
  t.same(await readdir(root), ['f.txt'])
  await t.rejects(writeFileAtomically(join(root, 'none', 'f.txt'), 'x'), { code: 'ENOENT' })
})

t.test('the database', async (t) => {
  const root = await directory(t)
  const path = join(root, 'egress25.db')
  const database = openDatabase(path)
  t.teardown(() => database.close())
  const incident = (id: string, lastSeen: number, state: Incident['state'] = 'open'): Incident => ({
    id,
    kind: 'spam-bot',
    confidence: 'likely',
    state,
    source: '100.64.1.2',
    user: null,
    process: null,
    policy: 'p',
    verdict: 'block',
    firstSeen: 1,
    lastSeen,
    attempts: 30,
    destinations: 30,
    topDestinations: [],
    lost: 0,
    evidence: {
      rule: 'fan-out',
      window: 300_000,
      attempts: 30,
      connections: 30,
      destinations: 30,
      sources: 1,
      limits: { attempts: 30, destinations: 10 },
      usual: null,
    },
    interfaces: [],
    hardwareAddresses: [],
    reopened: 0,
    counter: null,
    acknowledged: false,
    summary: 's',
  })
  const store = new IncidentStore(database)
  for (let i = 0; i < 25; i++)
    store.save(incident(`i${i}`, 100 + (i >> 1), i % 5 === 0 ? 'resolved' : 'open'))
  t.test('pages cover everything once, the latest first', async (t) => {
    const seen: string[] = []
    for (let after: { lastSeen: number; id: string } | undefined; ; ) {
      const found = store.list({ limit: 7, ...(after === undefined ? {} : { after }) })
      seen.push(...found.map(({ id }) => id))
      const last = found.at(-1)
      if (last === undefined) break
      after = { lastSeen: last.lastSeen, id: last.id }
    }
    t.equal(seen.length, 25)
    t.equal(new Set(seen).size, 25)
    t.equal(seen[0], 'i24')
    t.equal(store.list({ limit: 100, state: 'resolved' }).length, 5)
  })
  t.test('saved again, it is the same incident', async (t) => {
    store.save({ ...incident('i0', 999), attempts: 99 })
    t.match(store.get('i0'), { attempts: 99, state: 'open' })
    t.equal(store.list({ limit: 100 }).length, 25)
  })
  t.test('what is resolved and old is forgotten, what is open is not', async (t) => {
    const other = openDatabase(join(root, 'prune.db'))
    t.teardown(() => other.close())
    const incidents = new IncidentStore(other)
    for (const [id, seen, state] of [
      ['old', 1, 'resolved'],
      ['old-open', 1, 'open'],
      ['new', 10, 'resolved'],
    ] as const) {
      incidents.save(incident(id, seen, state))
    }
    t.equal(incidents.prune(10), 1)
    t.same(
      incidents.list({ limit: 9 }).map(({ id }) => id),
      ['new', 'old-open'],
    )
  })
  t.test('a failure takes all of it back', async (t) => {
    t.throws(() =>
      inTransaction(database, () => {
        store.save(incident('lost', 1))
        throw new Error('no')
      }),
    )
    t.equal(store.get('lost'), null)
  })
  t.test('a file from the future is refused', async (t) => {
    const future = join(root, 'future.db')
    const other = new DatabaseSync(future)
    other.exec('PRAGMA user_version = 99')
    other.close()
    t.throws(() => openDatabase(future))
  })
})

t.test('the command finds its own Node.js from wherever it is called', async (t) => {
  const root = await directory(t)
  await chmod(root, 0o755)
  const { code, out } = await egress25(['version'], { env: { PATH: '/usr/bin:/bin' } })
  t.match({ code, out }, { code: 0, out: /\d/ })
})

t.test('what was built runs while it is as young as the source, and always in a release', async (t) => {
  const root = await directory(t, {
    'src/cli.ts': 'console.log("source" satisfies string)\n',
    'scripts/lib/build.ts': '',
    'package.json': '{"type": "module"}\n',
    'package-lock.json': '{}\n',
    'node_modules/.bin/placeholder': '',
    '.git': '',
  })
  await symlink(join(ROOT, 'node_modules/.bin/node'), join(root, 'node_modules/.bin/node'))
  await cp(join(ROOT, 'scripts/egress25'), join(root, 'scripts/egress25'))
  const runs = async () => (await run(join(root, 'scripts/egress25'), ['version'])).out.trim()
  t.equal(await runs(), 'source', 'nothing was built')
  await mkdir(join(root, 'built'))
  await writeFile(join(root, 'built/cli.js'), 'console.log("built")\n')
  t.equal(await runs(), 'built')
  // Far in the past, as where a file was unpacked over it: what counts is when it changed.
  const changed = async (path: string) => (await stat(join(root, path), { bigint: true })).ctimeNs
  await utimes(join(root, 'built/cli.js'), 1e9 + 1, 1e9 + 1)
  // The clock of a file system ticks coarsely.
  do await utimes(join(root, 'src/cli.ts'), 1e9, 1e9)
  while ((await changed('src/cli.ts')) <= (await changed('built/cli.js')))
  t.equal(await runs(), 'source', 'edited since')
  await rm(join(root, '.git'))
  t.equal(await runs(), 'built', 'nobody edits a release')
})

/**
 * What may go wrong while the rules change, with the real kernel: nft misbehaves, the disk is full or read-only, others
 * change them, too. The old rules hold, what is wrong is said in one line, and what comes after it is as it should be.
 */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { digestOf } from '../../src/compile/nft/digest.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { gateway, POLICIES, ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const BOT = { from: '100.64.7.7', to: '203.0.113.9', port: 25 }

// Each has a gateway of its own, and waits a lot.
t.jobs = 2

t.test('nft misbehaves', async (t) => {
  const bin = await mkdtemp(join(tmpdir(), 'egress25-nft-'))
  t.teardown(() => rm(bin, { recursive: true, force: true, maxRetries: 9 }))
  const real = (await runProcess(['which', 'nft'], { timeout: 60_000 })).stdout.trim()
  await writeFile(join(bin, 'nft'), misbehaving(join(bin, 'how'), real))
  await chmod(join(bin, 'nft'), 0o755)
  const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}` }
  const g = await gateway(t, POLICIES, env)
  await g.start()
  const misbehave = (how: string) => writeFile(join(bin, 'how'), how)
  const inSync = async () => (await g.get('/v1/status'))['in_sync']
  let number = 0

  for (const how of ['fail', 'segv', 'kill'] as const) {
    t.test(`${how}: refused in one line, the old rules hold, and the next change is made`, async (t) => {
      const host = `100.67.0.${++number}`
      const change = () => g.ask('PUT', `/v1/exemptions/host-${number}`, { sources: [host] })
      await misbehave(how)
      const { status, text } = await change()
      const { code, detail } = JSON.parse(text)
      t.same([status, code], [503, 'kernel-refused'])
      t.notMatch(detail, /\n/)
      t.same(await g.client.connectAll([BOT, { ...BOT, from: host }]), ['reset', 'reset'])
      t.equal((await g.ask('GET', `/v1/exemptions/host-${number}`)).status, 404)
      t.notOk(
        (await readdir(join(g.directory, 'policies'), { recursive: true })).some((file) =>
          file.includes('host-'),
        ),
      )
      await until('the doubt', async () => (await inSync()) === false)
      await misbehave('')
      await until('certainty', inSync)
      t.equal((await change()).status, 201)
      t.same(await g.client.connectAll([BOT, { ...BOT, from: host }]), ['reset', 'connected'])
      t.equal((await g.ask('DELETE', `/v1/exemptions/host-${number}`)).status, 204)
    })
  }

  t.test('it says yes and prints garbage: found out, and put right', async (t) => {
    await misbehave('garbage')
    const host = '100.67.1.1'
    await g.ask('PUT', '/v1/exemptions/garbage', { sources: [host] })
    t.same(await g.client.connectAll([BOT, { ...BOT, from: host }]), ['reset', 'reset'])
    await until('the doubt', async () => (await inSync()) === false)
    await misbehave('')
    await until('certainty', inSync)
    const there = (await g.ask('GET', '/v1/exemptions/garbage')).status === 200
    t.equal(
      await g.client.connect({ ...BOT, from: host }),
      there ? 'connected' : 'reset',
      'as the listing says',
    )
  })

  t.test('it has too little memory for a long list', async (t) => {
    const prefixes = Array.from(
      { length: 60_000 },
      (_, i) => `100.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
    )
    await writeFile(join(g.directory, 'policies/long.txt'), prefixes.join('\n'))
    await writeFile(
      join(g.directory, 'policies/long.yaml'),
      'kind: list\nname: long\nfile: long.txt\n---\nkind: exemption\nname: long\nsources: ["@long"]\n',
    )
    await misbehave('memory')
    const { code, stderr } = await g.egress25('apply')
    t.equal(code, 3, stderr)
    t.equal(stderr.trim().split('\n').length, 1, stderr)
    t.same(await g.client.connectAll([BOT, { ...BOT, from: '100.100.0.9' }]), ['reset', 'reset'])
    await misbehave('')
    t.equal((await g.egress25('apply')).code, 0)
    t.equal(await g.client.connect({ ...BOT, from: '100.100.0.9' }), 'connected')
  })

  t.test('it hangs: given up, and the next change is made', async (t) => {
    const model = await loadPolicies(join(g.directory, 'policies'), { now: Date.now() })
    if (model.model === null) throw new Error('the policies are not what they were')
    const ruleset = compile(model.model, DEFAULT_COMPILE_OPTIONS)
    let timeout = 60_000
    const inGateway: ProcessRunner = ([command, ...args], options) =>
      runProcess(
        ['ip', 'netns', 'exec', g.lab.relays, command === 'nft' ? join(bin, 'nft') : command, ...args],
        { ...options, timeout },
      )
    const nft = openNft(inGateway)
    const enforcer = new Enforcer(nft, null)
    for (const when of ['before the first apply', 'after it']) {
      await misbehave('hang')
      timeout = 500
      t.match(await enforcer.apply(ruleset).catch((error) => error), { fault: 'no-answer' }, when)
      await misbehave('')
      timeout = 60_000
      await enforcer.apply(ruleset)
      t.equal((await nft.readState())?.digest, digestOf(ruleset))
      enforcer.forget()
    }
  })
})

/** An nft that does as the file says: nothing in it, or no file, and it is the real one. */
function misbehaving(file: string, real: string): string {
  return `#!/bin/sh
if [ "$1" = --version ]; then exec ${real} --version; fi
case $(cat ${file} 2>/dev/null) in
fail) echo 'Error: Could not process rule: No buffer space available' >&2; echo 'and more' >&2; exit 1 ;;
segv) kill -SEGV $$ ;;
kill) kill -KILL $$ ;;
hang) exec sleep 1000 ;;
garbage) head -c 100000 /dev/urandom; exit 0 ;;
memory) exec prlimit --as=20971520 ${real} "$@" ;;
esac
exec ${real} "$@"
`
}

t.test('the disk is full, or read-only', async (t) => {
  const g = await gateway(t)
  const state = join(g.directory, 'state')
  const policies = join(g.directory, 'policies')
  const disk = async (path: string, ...options: string[]) => {
    const { code, stderr } = await runProcess(['mount', ...options, path], { timeout: 60_000 })
    if (code !== 0) throw new Error(stderr)
  }
  await mkdir(state)
  await disk(state, '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs')
  t.teardown(() => runProcess(['umount', '--lazy', state], { timeout: 60_000 }))
  let service = await g.start()
  // As the service sees it: it has files open there, which keep the disk from changing for everybody.
  const inside = async (...options: string[]) => {
    const mounts = ['nsenter', '-t', String(service.pid), '-m', 'mount'] as const
    for (const argv of [
      [...mounts, '--bind', state, state] as const,
      [...mounts, '-o', options.join(), state] as const,
    ]) {
      const { code, stderr } = await runProcess(argv, { timeout: 60_000 })
      if (code !== 0) throw new Error(stderr)
    }
  }
  const put = async (name: string, host: string) =>
    (await g.ask('PUT', `/v1/exemptions/${name}`, { sources: [host] })).status
  const fill = async (folder: string) => {
    const { code } = await runProcess(['dd', 'if=/dev/zero', `of=${folder}/filler`, 'bs=4k'], {
      timeout: 60_000,
    })
    t.equal(code, 1, 'there is no room left')
  }
  /** What a boot would bring, tried where nobody enforces anything. */
  const afterBoot = async () => {
    await g.lab.exec(g.lab.relays, ['nft', '-f', join(state, 'ruleset.nft')])
    return (await g.lab.exec(g.lab.relays, ['nft', 'list', 'set', 'inet', 'egress25', 'exempt4-32'])).stdout
  }

  const words = (text: string) => text.split(/[\s,{}]+/)

  for (const [what, spoil, mend] of [
    ['full', () => fill(state), () => rm(join(state, 'filler'))],
    ['read-only', () => inside('remount,ro,bind'), () => inside('remount,rw,bind')],
  ] as const) {
    t.test(
      `the state directory is ${what}: enforcement goes on, and what will not last is said`,
      async (t) => {
        const network = what === 'full' ? '100.68.0' : '100.68.1'
        const second = `${network}.255`
        let first = network
        let number = 0
        // The service may let go of a file after the disk was filled, and then there is room for one small change more.
        await until('a change that will not last', async () => {
          if (number === 0 || what === 'full') await spoil()
          first = `${network}.${++number}`
          t.equal(await put(`${what}-${number}`, first), 201)
          const { ruleset } = (await g.get('/v1/status')) as { ruleset: { boot_file_error: string | null } }
          return ruleset.boot_file_error !== null
        })
        t.same(await g.client.connectAll([BOT, { ...BOT, from: first }]), ['reset', 'connected'])
        t.match(await g.get('/v1/status'), { in_sync: true, ruleset: { boot_file_error: String } })
        await g.nft('flush', 'ruleset')
        await until('the rules', async () => (await g.nft('list', 'tables')).includes('egress25'))
        t.same(await g.client.connectAll([BOT, { ...BOT, from: first }]), ['reset', 'connected'], 'healed')
        t.notOk(words(await afterBoot()).includes(first))
        await mend()
        t.equal(await put(`${what}-more`, second), 201)
        const booted = words(await afterBoot())
        t.ok([first, second].every((host) => booted.includes(host)))
        t.match(await g.get('/v1/status'), { in_sync: true, ruleset: { boot_file_error: null } })
      },
    )
  }

  t.test('a file that nobody may replace: its change is taken back, and those beside it stay', async (t) => {
    const name = (number: number) => `/v1/exemptions/held-${number}`
    const source = (number: number) => `100.68.3.${number}`
    const allow = (number: number) => g.client.connect({ ...BOT, from: source(number) })
    const numbers = [1, 2, 3, 4]
    const put = (number: number, sources: readonly string[], headers = {}) =>
      g.ask('PUT', name(number), { sources }, headers)
    for (const number of numbers) t.equal((await put(number, ['100.68.4.1'])).status, 201)
    const held = join(policies, 'exemptions/held-3.yaml')
    const chattr = (flag: string) => runProcess(['chattr', flag, held], { timeout: 60_000 })
    await chattr('+i')
    t.teardown(() => chattr('-i'))
    const answers = await Promise.all(
      numbers.map((number) => put(number, [source(number)], { 'if-match': '*' })),
    )
    t.same(
      answers.map(({ status, text }) => (status === 200 ? 200 : JSON.parse(text).code)),
      [200, 200, 'policies-unwritable', 200],
    )
    t.same(await Promise.all(numbers.map(allow)), ['connected', 'connected', 'reset', 'connected'])
    t.match(await g.ask('DELETE', name(3)), { status: 503, text: /policies-unwritable/ })
    t.match(await g.get(name(3)), { sources: ['100.68.4.1'] })
    t.match(await g.get('/v1/status'), { in_sync: true })
    t.same(
      (await readdir(join(policies, 'exemptions'))).filter((file) => file.startsWith('held-')).sort(),
      numbers.map((number) => `held-${number}.yaml`),
    )
    await g.stop(service)
    service = await g.start()
    t.same(await Promise.all(numbers.map(allow)), ['connected', 'connected', 'reset', 'connected'])
    await chattr('-i')
    for (const number of numbers) t.equal((await g.ask('DELETE', name(number))).status, 204)
  })

  t.test('the policy directory is full: nothing is changed, and nothing left behind', async (t) => {
    const before = await readdir(policies)
    const kept = await Promise.all(
      ['policy.yaml', 'tests.yaml'].map((file) => readFile(join(policies, file), 'utf8')),
    )
    await disk(policies, '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs')
    t.teardown(() => runProcess(['umount', '--lazy', policies], { timeout: 60_000 }))
    await writeFile(join(policies, 'policy.yaml'), kept[0] ?? '')
    await writeFile(join(policies, 'tests.yaml'), kept[1] ?? '')
    await g.stop(service)
    await g.start()
    await fill(policies)
    const { status, text } = await g.ask('PUT', '/v1/exemptions/no-room', { sources: ['100.68.2.1'] })
    t.same([status, JSON.parse(text).code], [503, 'policies-unwritable'])
    t.same((await readdir(policies)).sort(), ['filler', 'policy.yaml', 'tests.yaml'])
    t.equal(await g.client.connect({ ...BOT, from: '100.68.2.1' }), 'reset')
    t.ok(before.length > 0 && (await stat(policies)).isDirectory())
  })
})

t.test(
  'nothing can be kept: what is refused says why, what is there can be read, and nothing must be restarted',
  async (t) => {
    const g = await gateway(t)
    const state = join(g.directory, 'state')
    await mkdir(state)
    const mounted = await runProcess(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', state], {
      timeout: 60_000,
    })
    t.equal(mounted.code, 0, mounted.stderr)
    t.teardown(() => runProcess(['umount', '--lazy', state], { timeout: 60_000 }))
    const config = JSON.parse(await readFile(g.config, 'utf8'))
    const policies = { ...config.policies, history: 'init' }
    const api = { ...config.api, loopback_role: 'admin' }
    await writeFile(g.config, JSON.stringify({ ...config, policies, api }))
    // And nobody takes the log.
    await symlink('/dev/full', join(g.directory, 'log'))
    const service = await g.start()
    await g.client.connectAll(
      Array.from({ length: 40 }, (_, i) => ({ from: '100.64.7.9', to: `203.0.113.${i}`, port: 25 })),
      20,
    )
    const incident = await until('an incident', async () => {
      const { items } = (await g.get('/v1/incidents?state=open')) as {
        items: { id: string; source: string }[]
      }
      return items.find(({ source }) => source === '100.64.7.9')?.id
    })
    const changes = (round: string) =>
      [
        ['PUT', `/v1/exemptions/${round}`, { sources: ['100.68.3.1'] }],
        ['DELETE', '/v1/exemptions/before', undefined],
        ['POST', '/v1/exemption-requests', { sources: ['100.68.3.2'], reason: 'x', name: `${round}-asked` }],
        ['POST', '/v1/tokens', { name: round, role: 'viewer' }],
        ['POST', '/v1/silences', { for: '1h', reason: round, policies: ['residential'] }],
        ['POST', `/v1/incidents/${incident}/acknowledge`, undefined],
        ['POST', `/v1/incidents/${incident}/resolve`, undefined],
      ] as const
    const warnings = async () => {
      const { preflight } = (await g.get('/v1/status')) as { preflight: { code: string }[] }
      return preflight.map(({ code }) => code).filter((code) => code.endsWith('-unwritable'))
    }
    t.equal((await g.ask('PUT', '/v1/exemptions/before', { sources: ['100.68.3.3'] })).status, 201)
    await until('its commit', async () => {
      const { items } = (await g.get('/v1/history?limit=1')) as { items: { subject: string }[] }
      return items[0]?.subject === 'exemption before: added'
    })
    await until('what is wrong with the log', async () => (await warnings()).includes('log-unwritable'))
    await runProcess(['dd', 'if=/dev/zero', `of=${state}/filler`, 'bs=4k'], { timeout: 60_000 })
    await runProcess(['dd', 'if=/dev/zero', `of=${state}/filler-of-crumbs`, 'bs=1'], { timeout: 60_000 })

    for (const [method, path, body] of changes('full')) {
      const { status, text } = await g.ask(method, path, body)
      t.same([status, JSON.parse(text).code], [503, 'state-unwritable'], `${method} ${path}`)
    }
    // Somebody else turns bad, of which nothing can be written down.
    await g.client.connectAll(
      Array.from({ length: 40 }, (_, i) => ({ from: '100.64.7.11', to: `203.0.113.${i}`, port: 25 })),
      20,
    )
    await until('what is known of it', async () => {
      const { incidents } = (await g.get('/v1/status')) as { incidents: { open: Record<string, number> } }
      return incidents.open['spam-bot'] === 2
    })
    await until('what is wrong', async () => (await warnings()).includes('state-unwritable'))
    t.equal((await g.ask('GET', '/readyz')).status, 503)
    for (const path of ['audit', 'history', 'tokens', 'silences', 'exemptions/before', 'sources', 'attempts'])
      t.equal((await g.ask('GET', `/v1/${path}`)).status, 200, path)
    t.match(await g.get(`/v1/incidents/${incident}`), { state: 'open', acknowledged: false })
    t.same(await g.client.connectAll([BOT, { ...BOT, from: '100.68.3.1' }]), ['reset', 'reset'])
    t.equal(await g.client.connect({ ...BOT, from: '100.68.3.3' }), 'connected', 'what was not revoked')

    for (const name of ['filler', 'filler-of-crumbs']) await rm(join(state, name))
    await until('readiness', async () => (await g.ask('GET', '/readyz')).status === 200)
    await until('the incident', async () => {
      const { items } = (await g.get('/v1/incidents')) as { items: { source: string }[] }
      return items.some(({ source }) => source === '100.64.7.11')
    })
    await until('its alert', async () =>
      g.deliveries.some(({ body }) => body.includes('"opened"') && body.includes('100.64.7.11')),
    )
    for (const [method, path, body] of changes('room')) {
      const { status, text } = await g.ask(method, path, body)
      t.ok(status < 300, `${method} ${path}: ${text}`)
    }
    t.match(await g.get('/v1/history'), { items: [{}, {}, {}, {}] })
    t.equal(await g.stop(service), 0)
    await g.start()
    t.match(await g.get(`/v1/incidents/${incident}`), { state: 'resolved', acknowledged: true })
    t.match(await g.get('/v1/tokens'), { items: [{ name: 'room' }] })
    t.equal((await g.ask('GET', '/v1/exemptions/before')).status, 404)
    t.equal((await g.ask('GET', '/v1/exemptions/room')).status, 200)
  },
)

t.test('two services with one state directory: the second is refused in one line', async (t) => {
  const g = await gateway(t)
  await g.start()
  const config = JSON.parse(await readFile(g.config, 'utf8'))
  const other = join(g.directory, 'other.yaml')
  await writeFile(other, JSON.stringify({ ...config, api: { listen: ['127.0.0.1:7099'] } }))
  const table = await g.nft('list', 'table', 'inet', 'egress25')
  const { code, stderr } = await g.lab.exec(g.lab.gateway, [
    join(ROOT, 'scripts/egress25'),
    '-c',
    other,
    'serve',
  ])
  t.equal(code, 2, stderr)
  t.equal(stderr.trim().split('\n').length, 1, stderr)
  t.equal(await g.nft('list', 'table', 'inet', 'egress25'), table)
  t.match(await g.get('/v1/status'), { in_sync: true, drift: 0 })
})

t.test('many change at once, through REST and by the command: nothing is lost', async (t) => {
  const g = await gateway(t)
  await g.start()
  const statuses: number[] = []
  const client = async (which: number) => {
    for (let i = 0; i < 10; i++) {
      const name = `c${which}-${i}`
      statuses.push(
        (await g.ask('PUT', `/v1/exemptions/${name}`, { sources: [`100.69.${which}.${i}`] })).status,
      )
      if (i % 2 === 1) statuses.push((await g.ask('DELETE', `/v1/exemptions/${name}`)).status)
    }
  }
  const command = async () => {
    for (let i = 0; i < 5; i++) {
      const { code, stderr } = await g.egress25('apply')
      t.equal(code, 0, stderr)
    }
  }
  await Promise.all([...[1, 2, 3, 4, 5].map(client), command(), command()])
  t.same([...new Set(statuses)].sort(), [201, 204])
  const exempt = await g.nft('list', 'set', 'inet', 'egress25', 'exempt4-32')
  const expected = [1, 2, 3, 4, 5].flatMap((which) => [0, 2, 4, 6, 8].map((i) => `100.69.${which}.${i}`))
  t.same([...exempt.matchAll(/100\.69\.[\d.]+/g)].map(([address]) => address).sort(), expected.sort())
  const { items } = JSON.parse((await g.ask('GET', '/v1/exemptions?limit=1000')).text)
  t.equal(items.length, expected.length)
  t.match(await g.get('/v1/status'), { in_sync: true, drift: 0 })
})

/**
 * Two versions of nft, the one of Debian 12 and the one of Debian 13: all that is asked of nft by the one that this
 * machine does not have, and one after the other on the same table; and an nft that is of no use.
 *
 * Whatever is started in a gateway here finds a link first in its PATH, which is led from one nft to another: as an
 * upgrade of the package does it, under whoever runs.
 */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { Preflight } from '../../src/kernel/preflight.ts'
import type { ProcessRunner } from '../../src/kernel/process.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { parseAddress } from '../../src/policy/prefix.ts'
import { caseNames, expectedFile, readCase } from '../golden/cases.ts'
import { type Field, openField } from '../golden/field.ts'
import { replay } from '../golden/replay.ts'
import { beforeItsEnd, untilItEnds } from './ends.ts'
import { COMMAND, type Gateway, gateway, POLICIES, ROOT, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

// They wait for services, guards and each other's processes.
t.jobs = 4

const folder = await mkdtemp(join(tmpdir(), 'egress25-versions-'))
t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 9 }))

/** A place in the PATH that leads from `nft` to one program or another. */
interface Link {
  readonly env: NodeJS.ProcessEnv
  /** Runs what is asked for in a field's gateway. */
  in(field: Field): ProcessRunner
  /** From now on; also for what runs already. */
  use(program: string): Promise<void>
}

async function linkTo(program: string): Promise<Link> {
  const place = await mkdtemp(join(folder, 'bin-'))
  const use = async (target: string) => {
    await symlink(target, join(place, 'next'))
    await rename(join(place, 'next'), join(place, 'nft'))
  }
  await use(program)
  return {
    env: { ...process.env, PATH: `${place}:${process.env['PATH']}` },
    in:
      ({ inGateway }) =>
      ([command, ...args], options) =>
        inGateway([command === 'nft' ? join(place, 'nft') : command, ...args], options),
    use,
  }
}

const SYSTEM = execFileSync('sh', ['-c', 'PATH=$PATH:/usr/sbin command -v nft'], { encoding: 'utf8' }).trim()
// It may have to be fetched, and says so.
const OTHER = execFileSync(join(ROOT, 'scripts/lib/other-nft'), {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
}).trim()
const versionOf = (program: string) =>
  /v[\d.]+/.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[0] ?? ''
const [OLDER, NEWER] = [SYSTEM, OTHER].sort((a, b) => (versionOf(a) < versionOf(b) ? -1 : 1)) as [
  string,
  string,
]

t.equal(versionOf(OLDER), 'v1.0.6')
t.match(versionOf(NEWER), /^v1\.1\./)

const NOW = Date.now()
const BOT = '100.64.7.7'
const FRIEND = '100.64.9.9'
const ANYWHERE = '203.0.113.9'
const packet = (from: string) => ({ from, to: ANYWHERE, port: 25 })
const exemption = (source: string, more = '') =>
  `---\nkind: exemption\nname: e${source.replaceAll('.', '-')}\nsources: [${source}]\n${more}`

async function rulesetOf(text: string): Promise<Ruleset> {
  const overlay = new Map([['policies.yaml', text]])
  const { model, diagnostics } = await loadPolicies(import.meta.dirname, { now: Date.now(), overlay })
  if (model === null) throw new Error(JSON.stringify(diagnostics))
  return compile(model, DEFAULT_COMPILE_OPTIONS)
}

/** Real networks around a gateway in which nft is what the link leads to. */
async function field(test: Test, link: Link): Promise<Field> {
  const opened = await openField({ echo: true })
  test.teardown(() => opened.close())
  return { ...opened, nft: openNft(link.in(opened)) }
}

t.test(`nft ${versionOf(OTHER)}: golden cases`, async (t) => {
  const f = await field(t, await linkTo(OTHER))
  const kindsOf = ({ chains }: Ruleset) => chains.flatMap(({ rules }) => rules.map(({ rule }) => rule))
  const [all, met] = [new Set<string>(), new Set<string>()]
  for (const name of await caseNames()) {
    const golden = await readCase(name, NOW)
    for (const kind of kindsOf(golden.compiled!.ruleset)) all.add(kind)
    const isMet = /^(02|13|17|20)/.test(name)
    if (!isMet) continue
    for (const kind of kindsOf(golden.compiled!.ruleset)) met.add(kind)
    for (const { what, found, wanted } of await replay(f, golden, NOW))
      t.strictSame(found, wanted, `${name}: ${what}`)
  }
  t.strictSame(
    [...all].filter((kind) => !met.has(kind)),
    [],
    'packets have met every kind of rule',
  )
})

for (const [writer, reader] of [
  [OLDER, NEWER],
  [NEWER, OLDER],
] as const) {
  t.test(`what nft ${versionOf(writer)} has written, ${versionOf(reader)} reads and replaces`, async (t) => {
    const link = await linkTo(writer)
    const f = await field(t, link)
    const nft = async (program: string, ...args: string[]) =>
      (await f.inGateway([program, ...args], { timeout: 60_000 })).code
    for (const name of await caseNames()) {
      const file = expectedFile(name)
      await link.use(writer)
      t.equal(await nft(writer, '-c', '-f', file), 0, `${name}: a check`)
      t.equal(await nft(writer, '-f', file), 0, name)
      const written = await f.nft.readState()
      t.ok(written?.digest, `${name}: its mark`)
      await link.use(reader)
      t.strictSame(await f.nft.readState(), written, `${name}: the other reads the same`)
      t.equal(await nft(reader, 'list', 'ruleset'), 0, `${name}: and all the rest`)
      t.equal(await nft(reader, '-f', file), 0, `${name}: and replaces it`)
    }
  })
}

const POOL = 'kind: policy\nname: pool\nnetworks: [100.64.0.0/16, "2001:db8:100::/48"]\n'
const MORE = `---
kind: policy
name: quiet
networks: [100.65.0.0/16]
action: drop
---
kind: relay
name: mx
addresses: [192.0.2.25]
clients: [100.66.0.0/16]
${exemption('100.64.10.10', 'rate: 2/day\ndestinations: [203.0.113.0/24]\n')}${exemption('100.64.11.11', 'expires: 2099-01-01T00:00:00Z\n')}`

for (const [first, second] of [
  [OTHER, OTHER],
  [OLDER, NEWER],
  [NEWER, OLDER],
] as const) {
  const title = first === second ? versionOf(first) : `${versionOf(first)}, and then ${versionOf(second)}`
  t.test(`changes by nft ${title}`, async (t) => {
    const link = await linkTo(first)
    const f = await field(t, link)
    const probe = await f.probe(parseAddress(BOT)!, null)
    const connect = (from: string) => probe.connect(packet(from))
    const enforcer = new Enforcer(f.nft, null)
    const bare = await rulesetOf(POOL)
    t.equal((await enforcer.apply(bare)).how, 'replacement')
    t.equal(await connect(BOT), 'reset')
    await link.use(second)

    t.equal((await enforcer.apply(await rulesetOf(POOL + exemption(FRIEND)))).how, 'delta', 'a set, a rule')
    t.equal(await connect(FRIEND), 'connected')
    const two = await rulesetOf(POOL + exemption(FRIEND) + exemption('100.64.9.10'))
    t.equal((await enforcer.apply(two)).how, 'delta', 'an element')
    t.equal(await connect('100.64.9.10'), 'connected')
    const grown = await rulesetOf(POOL + MORE)
    const { how, digest } = await enforcer.apply(grown)
    t.equal(how, 'delta', 'chains, maps and learned sets, and others go')
    t.equal((await f.nft.readState())?.digest, digest)
    t.equal(await connect(FRIEND), 'reset')
    t.same(
      [await connect('100.64.10.10'), await connect('100.64.10.10'), await connect('100.64.10.10')],
      ['connected', 'connected', 'reset'],
      'a rate',
    )
    t.equal(await connect('100.64.11.11'), 'connected')
    t.equal(await f.nft.readCounter('sources4', BOT), 1, 'what was counted before is still there')

    await link.use(first)
    const [before, sources] = [await f.nft.readState(), await f.nft.readLearned('sources4')]
    t.equal(sources.length, 3)
    await link.use(second)
    await sleep(1_100)
    await enforcer.restore('everything')
    const [after, sourcesAfter] = [await f.nft.readState(), await f.nft.readLearned('sources4')]
    t.not(after?.log?.era, before?.log?.era, 'a replacement')
    t.strictSame(after?.counters, before?.counters, 'remembers its counters')
    for (const { address, packets, bytes, expires } of sourcesAfter) {
      const source = sources.find((one) => one.address === address)
      t.match({ packets, bytes }, { packets: source?.packets, bytes: source?.bytes }, `and ${address}`)
      const aged = (source?.expires ?? 0) - expires
      t.ok(aged >= 1 && aged < 60, `which is forgotten when it would have been: ${expires}`)
    }
    t.equal(sourcesAfter.length, 3)

    const { end, done } = await beforeItsEnd(async (end) => {
      const expires = new Date(end).toISOString().replace('.000', '')
      const { how } = await enforcer.apply(await rulesetOf(POOL + exemption(FRIEND, `expires: ${expires}\n`)))
      return [how, await connect(FRIEND)]
    })
    t.same(done, ['delta', 'connected'])
    await untilItEnds(end)
    t.equal(await connect(FRIEND), 'reset', 'an exemption ends')
  })
}

interface Status {
  readonly in_sync: boolean
  readonly drift: number
  readonly attempts: { readonly total: number }
  readonly preflight: readonly { readonly code: string; readonly message: string }[]
}

const statusOf = async (g: Gateway) => (await g.get('/v1/status')) as unknown as Status
const isInSync = async (g: Gateway) => (await statusOf(g)).in_sync
const counted = (g: Gateway, attempts: number) =>
  until(`${attempts} attempts`, async () => (await statusOf(g)).attempts.total === attempts)
const put = async (g: Gateway, source: string) => {
  const name = `e${source.replaceAll('.', '-')}`
  return (await g.ask('PUT', `/v1/exemptions/${name}`, { sources: [source] })).status
}
/** Lines of the log that tell of something wrong. */
const errorsOf = async (g: Gateway) =>
  (await g.log())
    .split('\n')
    .filter((line) => /"level":[56]0/.test(line))
    .map((line) => JSON.parse(line) as { msg: string; reason?: string })

t.test(`a service with nft ${versionOf(OTHER)}`, async (t) => {
  const { env } = await linkTo(OTHER)
  const g = await gateway(t, POLICIES, env)
  t.ok((await g.nft('--version')).includes(versionOf(OTHER)))
  const service = await g.start()
  t.equal(await g.client.connect(packet(BOT)), 'reset')
  await counted(g, 1)
  const drifted = (times: number) =>
    until('healing', async () => {
      const { drift, in_sync } = await statusOf(g)
      return drift === times && in_sync
    })

  t.test('drift heals', async (t) => {
    await g.nft('flush', 'chain', 'inet', 'egress25', 'forward')
    await drifted(1)
    t.equal(await g.client.connect(packet(BOT)), 'reset')
    await g.nft('delete', 'table', 'inet', 'egress25')
    await drifted(2)
    t.equal(await g.client.connect(packet(BOT)), 'reset')
  })

  t.test('the next boot', async (t) => {
    t.equal(await put(g, FRIEND), 201)
    t.equal(await put(g, '100.64.9.10'), 201)
    const { digest } = (await g.get('/v1/status'))['ruleset'] as { digest: string }
    const file = await readFile(join(g.directory, 'state/ruleset.nft'), 'utf8')
    t.match(file, /include .*changes/)
    service.kill('SIGSTOP')
    await g.nft('flush', 'ruleset')
    await g.nft('-f', join(g.directory, 'state/ruleset.nft'))
    const groups = digest
      .match(/.{8}/g)
      ?.map((group) => `0x${group}`)
      .join(' . ')
    const applied = await g.nft('list', 'map', 'inet', 'egress25', 'applied')
    t.ok(applied.includes(groups ?? '?'), 'brings the last ruleset')
    t.equal(await g.client.connect(packet(BOT)), 'reset')
    t.equal(await g.client.connect(packet('100.64.9.10')), 'connected')
    service.kill('SIGCONT')
    await until('peace', () => isInSync(g))
  })

  t.test('a change that nobody confirms is taken back by its guard', async (t) => {
    await writeFile(join(g.directory, 'policies/late.yaml'), exemption('100.64.5.5'))
    const start = performance.now()
    t.equal((await g.egress25('apply', '--confirm', '10s')).code, 0)
    const open = await g.client.connect(packet('100.64.5.5'))
    t.ok(open === 'connected' || performance.now() > start + 10_000, 'not before its time')
    await g.stop(service, 'SIGKILL')
    const closed = async () => (await g.client.connect(packet('100.64.5.5'))) === 'reset'
    await until('the rules from before', closed)
    t.equal(await g.client.connect(packet(FRIEND)), 'connected')
  })
})

for (const [writer, reader] of [
  [OLDER, NEWER],
  [NEWER, OLDER],
] as const) {
  t.test(`nft ${versionOf(writer)} becomes ${versionOf(reader)}`, async (t) => {
    const { use, env } = await linkTo(writer)
    const g = await gateway(t, POLICIES, env)

    await t.test('between two commands', async (t) => {
      t.equal((await g.egress25('apply')).code, 0)
      t.equal(await g.client.connect(packet(BOT)), 'reset')
      await use(reader)
      const again = await g.egress25('apply', '--json')
      t.equal(again.code, 0, again.stderr)
      t.equal(await g.client.connect(packet(BOT)), 'reset')
      await writeFile(join(g.directory, 'policies/friend.yaml'), exemption(FRIEND))
      const changed = await g.egress25('apply', '--json')
      t.equal(changed.code, 0, changed.stderr)
      t.equal(await g.client.connect(packet(FRIEND)), 'connected')
      await use(writer)
      await rm(join(g.directory, 'policies/friend.yaml'))
      t.equal((await g.egress25('apply')).code, 0)
      t.equal(await g.client.connect(packet(FRIEND)), 'reset')
    })

    const earlier = await g.start()
    const { total } = (await statusOf(g)).attempts
    t.equal(await g.client.connect(packet(BOT)), 'reset')
    await counted(g, total + 1)
    await g.stop(earlier)

    t.test('between two runs of the service, and while it runs', async (t) => {
      await use(reader)
      const service = await g.start()
      await until('peace', () => isInSync(g))
      t.equal(await g.client.connect(packet(BOT)), 'reset')
      t.equal(await put(g, FRIEND), 201)
      t.equal(await g.client.connect(packet(FRIEND)), 'connected')
      const { drift } = await statusOf(g)
      await use(writer)
      t.equal(await put(g, '100.64.9.10'), 201)
      t.equal(await g.client.connect(packet('100.64.9.10')), 'connected')
      t.equal((await statusOf(g)).drift, drift, 'that is no drift')
      await use(reader)
      await g.nft('delete', 'table', 'inet', 'egress25')
      await until('healing', async () => (await statusOf(g)).drift === drift + 1 && (await isInSync(g)))
      t.equal(await g.client.connect(packet('100.64.9.10')), 'connected')
      t.equal(await g.client.connect(packet(BOT)), 'reset')
      await g.stop(service)
      t.same(
        (await errorsOf(g)).filter(({ msg }) => !/restored/.test(msg)),
        [],
      )
    })
  })
}

/** What a person sees of it: one line. */
const ONE_LINE = /^egress25: [^\n]+\n$/

t.test('a table that the older nft dies of', async (t) => {
  const { use, env } = await linkTo(OLDER)
  const g = await gateway(t, POLICIES, env)
  let service = await g.start()

  t.test('a set of the newer one among ours is healed as soon as that can be done', async (t) => {
    const byNewer = (...args: string[]) => g.lab.exec(g.lab.gateway, [NEWER, ...args])
    await byNewer('add set inet egress25 strange { type ipv4_addr; }')
    await until('drift', async () => !(await isInSync(g)))
    await sleep(2_500)
    t.notOk(await isInSync(g), 'nothing is called healed before it is')
    t.equal(await g.client.connect(packet(BOT)), 'reset', 'the rules hold')
    const lines = (await errorsOf(g)).filter(({ reason = '' }) => reason.includes('SIGSEGV'))
    t.match(lines, [{ reason: /newer nft/ }], 'one line, however often it was tried')
    t.equal(lines.length, 1)
    await use(NEWER)
    await until('healing', () => isInSync(g))
    t.equal((await byNewer('list set inet egress25 strange')).code, 1, 'it is gone')
    t.equal(await g.client.connect(packet(BOT)), 'reset')
    await use(OLDER)
    t.equal(await put(g, FRIEND), 201)
  })

  t.test('a set of the newer one in a table of others', async (t) => {
    await g.stop(service)
    await g.lab.exec(g.lab.gateway, [NEWER, 'add table ip other; add set ip other s { type ipv4_addr; }'])
    await writeFile(join(g.directory, 'policies/more.yaml'), exemption('100.64.5.5'))
    const { code, stderr } = await g.egress25('apply')
    t.equal(code, 3)
    t.match(stderr, ONE_LINE)
    t.match(stderr, /SIGSEGV.*newer nft/)
    t.equal(await g.client.connect(packet(BOT)), 'reset', 'the rules hold')
    t.equal(await g.client.connect(packet(FRIEND)), 'connected')
    await g.lab.exec(g.lab.gateway, [NEWER, 'delete table ip other'])
    service = await g.start()
    t.equal(await g.client.connect(packet('100.64.5.5')), 'connected')
  })

  t.test('comes while the service runs: changes are refused with the reason', async (t) => {
    await g.lab.exec(g.lab.gateway, [NEWER, 'add table ip other; add set ip other s { type ipv4_addr; }'])
    const { status, text } = await g.ask('PUT', '/v1/exemptions/no', { sources: ['100.64.6.6'] })
    t.equal(status, 503)
    t.match(text, /SIGSEGV.*newer nft/)
    t.equal(await g.client.connect(packet(BOT)), 'reset')
    t.equal(await g.client.connect(packet('100.64.6.6')), 'reset')
    await use(NEWER)
    t.equal(await put(g, '100.64.6.6'), 201, 'until there is an nft that can')
    t.equal(await g.client.connect(packet('100.64.6.6')), 'connected')
    await g.stop(service)
  })
})

t.test('what is wrong with nft is found before anybody needs it', async (t) => {
  const link = await linkTo(OLDER)
  const f = await field(t, link)
  const look = async () => {
    const preflight = new Preflight({ read: async () => null, list: async () => [] }, link.in(f))
    const gateway = { hooks: ['forward'], outsideInterfaces: [], priority: -5 } as const
    const found = await preflight.look({ gateway, families: [4], redirects: false, elements: 1 })
    return found.filter(({ code }) => code.startsWith('nft'))
  }
  t.same(await look(), [])
  await link.use('/bin/true')
  t.match(await look(), [{ code: 'nft-unusable', message: /status 0, "true/ }])
  await link.use(OLDER)
  const timeout = 60_000
  await f.inGateway([NEWER, 'add table ip other; add set ip other s { type ipv4_addr; }'], { timeout })
  t.match(await look(), [{ code: 'nft-unusable', message: /SIGSEGV.*newer nft/ }])
  await link.use(NEWER)
  t.same(await look(), [])
})

t.test('an nft that is of no use', async (t) => {
  const { use, env } = await linkTo(SYSTEM)
  const g = await gateway(t, POLICIES, env)
  t.equal((await g.egress25('apply')).code, 0)
  await writeFile(join(g.directory, 'policies/friend.yaml'), exemption(FRIEND))
  const standIn = async (name: string, version: string, rest = `exec ${SYSTEM} "$@"`) => {
    const path = join(folder, name)
    const script = `#!/bin/sh\ncase $1 in --version) ${version} ;; *) ${rest} ;; esac\n`
    await writeFile(path, script, { mode: 0o755 })
    return path
  }
  const useless = [
    ['apply', await standIn('old', "echo 'nftables v0.9.8 (E.D.S.)'"), /0\.9\.8.*1\.0\.6.*upgrade/],
    ['serve', join(folder, 'old'), /0\.9\.8.*1\.0\.6.*upgrade/],
    ['apply', await standIn('dying', 'kill -SEGV $$'), /SIGSEGV.*version.*nftables/],
    ['apply', await standIn('strange', "echo 'hello\nworld'"), /"hello".*nftables/],
    ['apply', await standIn('failing', 'echo no >&2; exit 7'), /status 7, "no"/],
    ['apply', '/nowhere/nft', /nft is not installed.*nftables/],
  ] as const
  await Promise.all(
    useless.map(async ([command, program, line]) => {
      const own = await linkTo(program)
      // What ip-netns(8) starts sees mounts of its own.
      const hide = program.startsWith('/nowhere') ? 'mount -t tmpfs none /usr/sbin && ' : ''
      const argv = ['sh', '-c', `${hide}exec "$0" -c "$1" ${command}`, COMMAND, g.config]
      const { code, stderr } = await g.lab.exec(g.lab.gateway, argv, { env: own.env, timeoutMs: 60_000 })
      t.equal(code, 3, `${program}: ${command}`)
      t.match(stderr, ONE_LINE)
      t.match(stderr, line)
    }),
  )
  t.equal(await g.client.connect(packet(BOT)), 'reset', 'the rules hold')
  t.equal(await g.client.connect(packet(FRIEND)), 'reset', 'as they were')

  t.test('comes while the service runs', async (t) => {
    await use(SYSTEM)
    const service = await g.start()
    t.equal(await g.client.connect(packet(FRIEND)), 'connected')
    await use(await standIn('refusing', "echo 'nftables v0.9.8'", "echo 'Error: what?' >&2; exit 1"))
    const { status, text } = await g.ask('PUT', '/v1/exemptions/no', { sources: ['100.64.6.6'] })
    t.equal(status, 503)
    t.match(text, /0\.9\.8/, 'what refuses is asked for its version')
    t.equal(await g.client.connect(packet(BOT)), 'reset')
    await use(SYSTEM)
    await until('peace', () => isInSync(g))
    t.equal(await put(g, '100.64.6.6'), 201)
    await g.stop(service)
  })
})

/**
 * What must hold for every policy and every packet, shown with the real kernel: cut connections, floods, foreign
 * packets, deltas, and the reference verdict. With SEED in the environment a run is repeated, with RUNS it is so
 * many times as long.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { renderReplacement } from '../../src/compile/nft-script.ts'
import { type CompileOptions, DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { runProcess } from '../../src/kernel/process.ts'
import { findUserIds } from '../../src/kernel/users.ts'
import { type Decision, decide } from '../../src/policy/decide.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { Model } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import { arrival, attemptOf, isGateway, openField } from '../golden/field.ts'
import { directories, edgesOf, pairs, withLargeRates } from '../golden/random.ts'

const NOW = Date.now()
const SEED = Number(process.env['SEED'] ?? NOW % 2 ** 31)
const RUNS = Number(process.env['RUNS'] ?? 1)
const OPTIONS: CompileOptions = {
  ...DEFAULT_COMPILE_OPTIONS,
  uids: await findUserIds(['daemon', 'nobody'], runProcess),
}

const field = await openField({ echo: true })
t.teardown(() => field.close())
t.comment(`SEED=${SEED}`)
/** A folder without policies: what is loaded is laid over it. */
const empty = import.meta.dirname

async function modelOf(yaml: string): Promise<Model> {
  const { model, diagnostics } = await loadPolicies(empty, {
    now: NOW,
    overlay: new Map([['policies.yaml', yaml]]),
  })
  if (model === null) throw new Error(JSON.stringify(diagnostics))
  return model
}

async function rulesetOf(yaml: string, options: Partial<CompileOptions> = {}): Promise<Ruleset> {
  return compile(await modelOf(yaml), { ...OPTIONS, ...options })
}

async function connect(from: string, to: string, port = 25, user: string | null = null): Promise<string> {
  const source = parseAddress(from) as Prefix
  return (await field.probe(source, user)).connect({ from, to, port })
}

/** How often all policies together were tried. */
async function attempts(ruleset: Ruleset): Promise<number> {
  const totals = (await field.nft.readState())?.totals
  const ids = ruleset.totals.filter(({ what }) => what.of === 'attempts').map(({ id }) => id)
  return ids.reduce((sum, id) => sum + (totals?.get(id) ?? 0), 0)
}

t.test('established connections', async (t) => {
  const policies = `
kind: policy
name: rejecting
networks: [100.64.0.0/16, "2001:db8:100::/48"]
---
kind: policy
name: dropping
networks: [100.65.0.0/16, "2001:db8:165::/48"]
action: drop
`
  const people = ['100.64.1', '100.65.1'].flatMap((net) => [1, 2, 3, 4].map((host) => `${net}.${host}`))
  const people6 = ['100:1', '165:1'].flatMap((net) => [1, 2, 3, 4].map((host) => `2001:db8:${net}::${host}`))
  const everybody = [...people, ...people6]
  const hosts = (last: number) => everybody.filter((host) => host.endsWith(`${last}`)).join('", "')
  const cutAs = (host: string) => (/^100\.64|:100:/.test(host) ? 'reset' : 'timeout')
  const to = (host: string) => (host.includes(':') ? '2001:db8:ffff::9' : '203.0.113.9')
  const probe = await field.probe(parseAddress('100.64.1.1') as Prefix, null)
  const holdAll = () =>
    Promise.all(everybody.map((host) => probe.hold({ from: host, to: to(host), port: 25 })))
  const sendAll = async (ids: readonly number[]) => {
    const outcomes = await Promise.all(ids.map((id) => probe.send(id)))
    return outcomes.map((outcome, index) => `${everybody[index]}: ${outcome}`)
  }
  const ok = everybody.map((host) => `${host}: ok`)
  const cut = everybody.map((host) => `${host}: ${cutAs(host)}`)

  t.test('are cut with the next packet when their exemption is deleted', async (t) => {
    const exemptions = `
---
kind: exemption
name: plain
sources: ["${hosts(1)}"]
---
kind: exemption
name: one-place
sources: ["${hosts(2)}"]
destinations: [203.0.113.0/24, "2001:db8:ffff::/48"]
---
kind: exemption
name: rated
sources: ["${hosts(3)}"]
rate: 1/day
---
kind: exemption
name: ending
sources: ["${hosts(4)}"]
expires: 2099-01-01T00:00:00Z
`
    const programs = new Set<string>()
    const watched = openNft((argv, options) => {
      programs.add(argv[0])
      return field.inGateway(argv, options)
    })
    const enforcer = new Enforcer(watched, null)
    await enforcer.apply(await rulesetOf(policies + exemptions))
    const held = await holdAll()
    t.strictSame(await sendAll(held), ok, 'while it holds')
    const { how } = await enforcer.apply(await rulesetOf(policies))
    t.equal(how, 'delta')
    t.strictSame(await sendAll(held), cut, 'when it is gone')
    t.strictSame([...programs], ['nft'], 'by nft alone')
    t.equal(await connect('100.64.1.1', '203.0.113.9'), 'reset', 'and nothing new begins')
    await Promise.all(held.map((id) => probe.release(id)))
  })

  t.test('are cut with the next packet when their exemption ends, and nobody does anything', async (t) => {
    const end = Math.ceil(Date.now() / 1000) * 1000 + 2_000
    const expires = new Date(end).toISOString().replace('.000', '')
    const exemptions = `
---
kind: exemption
name: plain
sources: ["${hosts(1)}", "${hosts(4)}"]
expires: ${expires}
---
kind: exemption
name: one-place
sources: ["${hosts(2)}"]
destinations: [203.0.113.0/24, "2001:db8:ffff::/48"]
expires: ${expires}
---
kind: exemption
name: rated
sources: ["${hosts(3)}"]
rate: 1/day
expires: ${expires}
`
    await new Enforcer(field.nft, null).apply(await rulesetOf(policies + exemptions))
    const held = await holdAll()
    await sleep(end - Date.now() - 700)
    t.strictSame(await sendAll(held), ok, 'until its end')
    t.ok(Date.now() < end, 'which was not over then')
    await sleep(end - Date.now() + 20)
    t.strictSame(await sendAll(held), cut, 'and not after it')
    await Promise.all(held.map((id) => probe.release(id)))
  })
})

t.test('a changed rate counts at once, also for who is connecting all the time', async (t) => {
  const withRate = (rate: string) => `
kind: policy
name: pool
networks: [100.64.0.0/10, "2001:db8:100::/40"]
---
kind: exemption
name: newsletter
sources: [100.64.30.1, "2001:db8:100:30::1"]
rate: ${rate}
`
  const enforcer = new Enforcer(field.nft, null)
  const burst = async (from: string, to: string, count: number) => {
    const outcomes: string[] = []
    for (let i = 0; i < count; i++) outcomes.push(await connect(from, to))
    return outcomes.filter((outcome) => outcome === 'connected').length
  }
  await enforcer.apply(await rulesetOf(withRate('100/day')))
  await connect('100.64.9.9', '203.0.113.9')
  for (const [rate, passed] of [
    ['100/day', 5],
    ['2/day', 2],
    ['100/day', 5],
    ['3/hour', 3],
    ['4/minute', 4],
  ] as const) {
    const { how } = await enforcer.apply(await rulesetOf(withRate(rate)))
    t.not(how, 'replacement', `${rate} is no reason to forget what was counted`)
    t.equal(await burst('100.64.30.1', '203.0.113.9', 5), passed, `${rate}, IPv4`)
    t.equal(await burst('2001:db8:100:30::1', '2001:db8:ffff::9', 5), passed, `${rate}, IPv6`)
  }
  t.equal((await field.counters('sources4')).get('100.64.9.9'), 1, 'what was counted before is still there')
})

const thisMachine = (users: string) => `
kind: policy
name: this-machine
networks: [198.51.100.254, "2001:db8:fffe::fe"]
---
kind: relay
name: mail-server
addresses: [192.0.2.25]
users: [${users}]
`

t.test('connections of a user of the gateway are cut when it is no relay any more', async (t) => {
  const enforcer = new Enforcer(field.nft, null)
  const own = parseAddress('198.51.100.254') as Prefix
  const probes = await Promise.all(['daemon', 'nobody'].map((user) => field.probe(own, user)))
  const ways = [
    { from: '198.51.100.254', to: '203.0.113.26', port: 25 },
    { from: '2001:db8:fffe::fe', to: '2001:db8:ffff::26', port: 25 },
  ]
  for (const way of ways) {
    await enforcer.apply(await rulesetOf(thisMachine('daemon, nobody')))
    const held = await Promise.all(probes.map((probe) => probe.hold(way)))
    const say = () => Promise.all(held.map((id, index) => probes[index]!.send(id)))
    t.strictSame(await say(), ['ok', 'ok'], 'while both are')
    t.equal((await enforcer.apply(await rulesetOf(thisMachine('daemon')))).how, 'delta')
    t.strictSame(await say(), ['ok', 'reset'], 'and when one is not')
    await Promise.all(held.map((id, index) => probes[index]!.release(id)))
  }
})

t.test('mail of a user of the gateway comes to its end after the process is gone', async (t) => {
  const ruleset = await rulesetOf(thisMachine('daemon'))
  await new Enforcer(field.nft, null).apply(ruleset)
  const before = await attempts(ruleset)
  // What both sides still have to say once the program has closed: the last acknowledgement comes from the kernel.
  const open = async () => {
    const argv = ['ss', '-Htan', 'state', 'connected', 'exclude', 'time-wait', 'sport', '=', ':25']
    return (await field.lab.exec(field.lab.internet, argv)).stdout
  }
  for (const [from, to] of [
    ['198.51.100.254', '203.0.113.25'],
    ['2001:db8:fffe::fe', '2001:db8:ffff::25'],
  ] as const) {
    const probe = await field.probe(parseAddress(from) as Prefix, 'daemon')
    const id = await probe.hold({ from, to, port: 25 })
    t.equal(await probe.send(id), 'ok')
    await probe.release(id)
    for (let i = 0; i < 20 && (await open()).includes(to); i++) await sleep(25)
    t.notMatch(await open(), to, `the server at ${to} has seen the end`)
    t.equal(await connect(from, to, 25, 'nobody'), 'reset', 'and others still send nothing')
  }
  t.equal((await attempts(ruleset)) - before, 2, 'nothing of it is counted as an attempt')
})

t.test('packets made by hand', async (t) => {
  const [own, gateway] = await Promise.all([
    macOf(field.lab.subscribers, 'up0'),
    macOf(field.lab.gateway, 'inside0'),
  ])

  /** Sends packets, described as trafgen(8) wants it, from the subscribers' side as quickly as it can. */
  async function send(packet: string, count: number): Promise<void> {
    const argv = ['trafgen', '--cpus', '1', '-n', String(count), '-o', 'up0', '-i', '-']
    const config = `{ ${gateway}, ${own}, ${packet} }`
    const { code, stdout, stderr } = await field.lab
      .exec(field.lab.subscribers, argv, { input: config, timeoutMs: 30_000 })
      .catch(() => ({ code: 127, stdout: '', stderr: 'no trafgen: install the package netsniff-ng' }))
    if (code !== 0) throw new Error(`trafgen: ${stderr} ${stdout}`)
  }

  /** Counts by destination what arrives in the gateway from inside, and what arrives on the internet; stops it there. */
  async function witness(test: Test) {
    const table = (device: string, verdict: string) => `
table inet witness
delete table inet witness
table inet witness {
  set to4 { type ipv4_addr; size 65535; flags dynamic; }
  set to6 { type ipv6_addr; size 65535; flags dynamic; }
  chain arrivals {
    type filter hook prerouting priority -500; policy accept;
    iifname "${device}" update @to4 { ip daddr counter }
    iifname "${device}" update @to6 { ip6 daddr counter }
    iifname "${device}" ${verdict}
  }
}
`
    const { gateway, internet } = field.lab
    const places = { [gateway]: table('inside0', 'accept'), [internet]: table('up0', 'drop') }
    for (const [place, input] of Object.entries(places)) {
      const { code, stderr } = await field.lab.exec(place, ['nft', '-f', '-'], { input })
      if (code !== 0) throw new Error(stderr)
    }
    test.teardown(async () => {
      for (const place of Object.keys(places)) {
        await field.lab.exec(place, ['nft', 'delete', 'table', 'inet', 'witness'])
      }
    })
    const seen = async (place: string) => {
      const found: Record<string, number> = {}
      for (const set of ['to4', 'to6']) {
        const { stdout } = await field.lab.exec(place, ['nft', 'list', 'set', 'inet', 'witness', set])
        for (const [, address = '', packets] of stdout.matchAll(/(\S+) counter packets (\d+)/g)) {
          found[address] = Number(packets)
        }
      }
      return found
    }
    return { inGateway: () => seen(gateway), onInternet: () => seen(internet) }
  }

  t.test('a flood from more sources than are tracked: nothing passes, all is counted', async (t) => {
    const tracked = 1_024
    const ruleset = await rulesetOf(
      `
kind: policy
name: pool
networks: [100.64.0.0/10, "2001:db8:100::/40"]
---
kind: policy
name: silent-pool
networks: [100.80.0.0/12, "2001:db8:180::/41"]
action: drop
---
kind: exemption
name: rated
sources: [100.96.0.0/16]
rate: 1/day
---
kind: exemption
name: mail-server
sources: [100.65.12.7]
`,
      { trackedSources: tracked },
    )
    await new Enforcer(field.nft, null).apply(ruleset)
    const { inGateway, onInternet } = await witness(t)
    const floods = [
      { count: 30_000, to: '203.0.113.1', packet: syn4('100, 64, drnd(2)', '203.0.113.1') },
      { count: 10_000, to: '203.0.113.2', packet: syn4('100, 80, drnd(2)', '203.0.113.2') },
      { count: 20_000, to: '2001:db8:ffff::1', packet: syn6('0x01, 0x0e, drnd(2)', '2001:db8:ffff::1') },
      { count: 10_000, to: '2001:db8:ffff::2', packet: syn6('0x01, 0x9e, drnd(2)', '2001:db8:ffff::2') },
    ]
    for (const { packet, count } of floods) await send(packet, count)
    const sent = Object.fromEntries(floods.map(({ to, count }) => [to, count]))
    // Others may still be sending what they have left from before.
    const only = (seen: Record<string, number>) => floods.map(({ to }) => `${to}: ${seen[to] ?? 0}`)
    t.strictSame(only(await inGateway()), only(sent), 'all of it reached the gateway')
    t.strictSame(only(await onInternet()), only({}), 'no packet reached the internet')
    t.equal(await attempts(ruleset), 70_000, 'the totals are exact')
    for (const set of ['sources4', 'sources6-64']) {
      const counters = [...(await field.counters(set)).values()]
      t.equal(counters.length, tracked, `${set} is full`)
      t.ok(Math.max(...counters) < 1_000, 'with the sources each by itself')
    }

    // Rates are learned too: with no room left, who has one is refused, not let through.
    await send(syn4('100, 96, drnd(2)', '203.0.113.3'), 20_000)
    const passed = (await onInternet())['203.0.113.3'] ?? 0
    t.ok(
      passed > 0 && passed <= tracked,
      `${passed} of 20,000 passed where ${tracked} have a rate of one each`,
    )
    t.equal(await attempts(ruleset), 90_000 - passed, 'and the rest is counted')
    await send(syn4('100, 65, 12, 7', '203.0.113.4'), 10)
    t.equal((await onInternet())['203.0.113.4'], 10, 'who is exempt still sends')
  })

  t.test('nothing but TCP port 25 is touched', async (t) => {
    const ruleset = await rulesetOf(`
kind: policy
name: everybody
networks: [0.0.0.0/0, "::/0"]
action: drop
`)
    await new Enforcer(field.nft, null).apply(ruleset)
    const { inGateway, onInternet } = await witness(t)
    const kinds = [...foreign4(), ...foreign6()]
    const count = 100
    for (const packet of kinds.map(({ packet }) => packet)) await send(packet, count)
    const sent = Object.fromEntries(kinds.map(({ to }) => [to, count]))
    const said = (seen: Record<string, number>) =>
      kinds.map(({ what, to }) => `${what}: ${seen[to] ?? 0}`).sort()
    t.strictSame(said(await inGateway()), said(sent), 'all of it reached the gateway')
    t.strictSame(said(await onInternet()), said(sent), 'all of it reached the internet')
    t.strictSame(
      [...((await field.nft.readState())?.totals.values() ?? [])],
      [0, 0, 0, 0].slice(0, ruleset.totals.length),
    )

    await send(syn4('100, 64, 1, 2', '203.0.113.250'), count)
    await send(syn6('0x01, 0x00, 0, 1', '2001:db8:ffff::250'), count)
    t.strictSame(said(await onInternet()), said(sent), 'while TCP port 25 is')
    t.equal(await attempts(ruleset), 2 * count)
  })
})

async function macOf(namespace: string, device: string): Promise<string> {
  const { stdout } = await field.lab.exec(namespace, ['cat', `/sys/class/net/${device}/address`])
  return bytes(Buffer.from(stdout.trim().replaceAll(':', ''), 'hex'))
}

/** Packets in the words of trafgen(8): what stands before the addresses, the addresses, what comes after. */
function ip4(
  protocol: number,
  source: string,
  to: string,
  payload: string,
  length: number,
  fragment = 0,
): string {
  const start = `c16(0x0800), 0x45, 0, c16(${20 + length}), drnd(2), c16(${fragment}), 64, ${protocol}`
  return `${start}, csumip(14, 33), ${source}, ${addressBytes(to)}, ${payload}`
}

function ip6(next: number, source: string, to: string, payload: string, length: number): string {
  const start = `c16(0x86dd), 0x60, 0, 0, 0, c16(${length}), ${next}, 64`
  const from = `0x20, 0x01, 0x0d, 0xb8, ${source}, fill(0, 7), 1`
  return `${start}, ${from}, ${addressBytes(to)}, ${payload}`
}

function tcp(sport: string, dport: number, flags: number, checksum: string): string {
  return `${sport}, c16(${dport}), drnd(4), c32(0), 0x50, ${flags}, c16(65535), ${checksum}, c16(0)`
}

const SYN = 2

function syn4(source: string, to: string, dport = 25): string {
  return ip4(6, source, to, tcp('drnd(2)', dport, SYN, 'csumtcp(14, 34)'), 20)
}

/** The source is 2001:db8: with these four bytes, and ::1. */
function syn6(source: string, to: string, dport = 25): string {
  return ip6(6, source, to, tcp('drnd(2)', dport, SYN, 'csumtcp6(14, 54)'), 20)
}

interface Foreign {
  readonly what: string
  /** An address of its own for each kind, by which it is counted. */
  readonly to: string
  readonly packet: string
}

const OTHER_PORTS = [24, 26, 465, 587, 2525, 25 << 8]

function foreign4(): Foreign[] {
  const from = '100, 64, 1, 2'
  const make = (what: string, last: number, build: (to: string) => string): Foreign => {
    const to = `203.0.113.${last}`
    return { what: `${what}, IPv4`, to, packet: build(to) }
  }
  const ports = `c16(4025), c16(25)`
  return [
    ...OTHER_PORTS.map((port, i) => make(`SYN to port ${port}`, 10 + i, (to) => syn4(from, to, port))),
    make('UDP to port 25', 30, (to) => ip4(17, from, to, `${ports}, c16(8), c16(0)`, 8)),
    make('UDP-Lite to port 25', 31, (to) => ip4(136, from, to, `${ports}, c16(8), c16(0)`, 8)),
    make('SCTP to port 25', 32, (to) => ip4(132, from, to, `${ports}, c32(0), c32(0)`, 12)),
    make('DCCP to port 25', 33, (to) => ip4(33, from, to, `${ports}, fill(0, 12)`, 16)),
    make('echo request', 34, (to) => ip4(1, from, to, '8, 0, csumip(34, 41), c16(25), c16(25)', 8)),
    make('GRE', 35, (to) => ip4(47, from, to, 'c16(0), c16(25), fill(0, 4)', 8)),
    make('answer from port 25', 36, (to) =>
      ip4(6, from, to, tcp('c16(25)', 40_025, 0x12, 'csumtcp(14, 34)'), 20),
    ),
    make('later fragment with the bytes of port 25', 37, (to) =>
      ip4(6, from, to, `${ports}, fill(0, 12)`, 16, 3),
    ),
  ]
}

function foreign6(): Foreign[] {
  const from = '0x01, 0x00, 0x00, 0x01'
  const make = (what: string, last: number, build: (to: string) => string): Foreign => {
    const to = `2001:db8:ffff::${last}`
    return { what: `${what}, IPv6`, to, packet: build(to) }
  }
  const ports = `c16(4025), c16(25)`
  return [
    ...OTHER_PORTS.map((port, i) => make(`SYN to port ${port}`, 10 + i, (to) => syn6(from, to, port))),
    make('UDP to port 25', 30, (to) => ip6(17, from, to, `${ports}, c16(8), csumudp6(14, 54)`, 8)),
    make('SCTP to port 25', 32, (to) => ip6(132, from, to, `${ports}, c32(0), c32(0)`, 12)),
    make('echo request', 34, (to) => ip6(58, from, to, '128, 0, c16(0), c16(25), c16(25)', 8)),
    make('answer from port 25', 36, (to) =>
      ip6(6, from, to, tcp('c16(25)', 40_025, 0x12, 'csumtcp6(14, 54)'), 20),
    ),
    make('later fragment with the bytes of port 25', 37, (to) =>
      ip6(44, from, to, `6, 0, c16(8), c32(25), ${ports}, fill(0, 12)`, 24),
    ),
  ]
}

function addressBytes(text: string): string {
  const { family, address } = parseAddress(text) as Prefix
  return bytes(Buffer.from(address.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex'))
}

function bytes(buffer: Buffer): string {
  return [...buffer].map((byte) => `0x${byte.toString(16).padStart(2, '0')}`).join(', ')
}

t.test('a delta leads to what a replacement leads to, and forgets nothing', async (t) => {
  let runs = 0
  await fc.assert(
    fc.asyncProperty(
      pairs,
      fc.array(fc.nat(), { minLength: 4, maxLength: 4 }),
      async ([before, after], picks) => {
        runs++
        const from = await rulesetOf(before.yaml)
        const to = await rulesetOf(after.yaml)
        const enforcer = new Enforcer(field.nft, null)
        await enforcer.apply(from)
        await tryOut(await modelOf(before.yaml), picks)
        const counted = await allCounters(from, to)
        const { how, digest } = await enforcer.apply(to)
        if (how === 'replacement') throw new Error('the kernel refused the delta, or there was none')
        const remembered = await allCounters(from, to)
        same(remembered, counted, 'counters')
        const changed = await listing()
        await field.nft.apply(renderReplacement(to).text)
        same(changed, await listing(), 'the table')
        same(digest, renderReplacement(to).digest, 'digest')
      },
    ),
    { numRuns: 80 * RUNS, seed: SEED, interruptAfterTimeLimit: 60_000 * RUNS },
  )
  t.ok(runs >= 80, `${runs} pairs`)
})

/** Some connections, so that there is something to forget. */
async function tryOut(model: Model, picks: readonly number[]): Promise<void> {
  const edges = edgesOf(model).filter((address) => !isGateway(address))
  const packets = picks.flatMap((pick) => {
    const source = edges[pick % edges.length]
    if (source === undefined) return []
    const destination = parseAddress(source.family === 4 ? '203.0.113.9' : '2001:db8:ffff::9') as Prefix
    return [{ source, destination, port: 25 }]
  })
  const quick = packets.filter((packet) => expected(decide(model, packet, NOW)) !== 'timeout')
  await Promise.all(
    quick.map(async (packet) => (await field.probe(packet.source, null)).connect(attemptOf(packet))),
  )
}

/** What the kernel has counted for all that both rulesets know. */
async function allCounters(one: Ruleset, other: Ruleset): Promise<Record<string, number>> {
  const found: [string, number][] = []
  const totals = (await field.nft.readState())?.totals ?? new Map<number, number>()
  for (const { id } of one.totals) {
    if (other.totals.some((total) => total.id === id)) found.push([String(id), totals.get(id) ?? -1])
  }
  const names = other.learned.map(({ name }) => name)
  for (const { name, holds } of one.learned) {
    if (holds !== 'counter' || !names.includes(name)) continue
    for (const [address, count] of await field.counters(name)) found.push([`${name} ${address}`, count])
  }
  return Object.fromEntries(found.sort())
}

/** The table as nft lists it, in one order, without what the kernel has learned by itself. */
async function listing(): Promise<string[]> {
  const argv = ['nft', '-s', 'list', 'table', 'inet', 'egress25'] as const
  const { code, stdout, stderr } = await field.inGateway(argv, { timeout: 10_000 })
  if (code !== 0) throw new Error(stderr)
  const blocks = stdout.match(/^\t(?:set|map|chain) .*?^\t}/gms) ?? []
  return blocks.map(normalBlock).sort()
}

function normalBlock(block: string): string {
  return block.replace(/\n\t\telements = \{(.*?)\}/s, (_, elements: string) => {
    if (/flags dynamic/.test(block)) return ''
    const sorted = elements.split(',').map((element) => element.trim().replace(/\s+/g, ' '))
    return `\n\t\telements = { ${sorted.sort().join(', ')} }`
  })
}

t.test('the kernel does what decide() says', async (t) => {
  const figures: Record<string, number> = { directories: 0, packets: 0 }
  const count = (what: string, more = 1) => {
    figures[what] = (figures[what] ?? 0) + more
  }
  const pick = fc.record({
    source: fc.nat(),
    destination: fc.nat(),
    port: fc.oneof({ weight: 9, arbitrary: fc.constant(25) }, fc.constantFrom(24, 26, 465, 587, 2525)),
    user: fc.constantFrom(null, 'daemon'),
  })
  await fc.assert(
    fc.asyncProperty(
      directories.map(withLargeRates),
      // The packets follow from one number: they need no shrinking, the message says which of them went wrong.
      fc.noShrink(fc.nat()),
      async (directory, seed) => {
        const picks = fc.sample(pick, { numRuns: 100, seed })
        const model = await modelOf(directory.yaml)
        const ruleset = compile(model, OPTIONS)
        await field.nft.apply(renderReplacement(ruleset).text)
        const packets = packetsOf(model, picks)
        const decisions = packets.map((packet) => decide(model, packet, NOW))
        await field.accepted(0)
        const outcomes = await Promise.all(
          packets.map(async (packet) =>
            (await field.probe(packet.source, packet.user)).connect(attemptOf(packet)),
          ),
        )
        const told = (words: readonly string[]) =>
          packets.map((packet, index) => {
            const { from, to, port } = attemptOf(packet)
            return `${packet.user ?? ''}@${from} to ${to} port ${port}, ${decisions[index]?.because}: ${words[index]}`
          })
        same(told(outcomes), told(decisions.map(expected)), 'verdicts')
        const arrivals = packets.flatMap((packet, index) => {
          const decision = decisions[index]
          return decision && expected(decision) === 'connected' ? [arrival(packet, decision)] : []
        })
        same(await field.accepted(arrivals.length), arrivals.sort(), 'arrivals')
        same(await totalsByName(ruleset, decisions), expectedTotals(decisions), 'totals')
        count('directories')
        count('packets', packets.length)
        for (const what of outcomes) count(what)
        for (const { because, verdict } of decisions) count(because === 'policy' ? verdict : because)
      },
    ),
    { numRuns: 24 * RUNS, seed: SEED, interruptAfterTimeLimit: 60_000 * RUNS },
  )
  t.comment(JSON.stringify(figures))
  t.ok(Number(figures['packets']) >= 1_500, 'enough packets')
  const kinds = ['relay-source', 'relay-user', 'relay-client', 'exemption', 'ungoverned', 'other-port']
  const verdicts = ['block', 'observe', 'redirect']
  t.strictSame(
    [...kinds, ...verdicts, 'connected', 'reset', 'timeout'].filter((what) => figures[what] === undefined),
    [],
    'of every kind',
  )
})

interface Pick {
  readonly source: number
  readonly destination: number
  readonly port: number
  readonly user: string | null
}

/** Packets between the edges of the prefixes that the model speaks of. */
function packetsOf(model: Model, picks: readonly Pick[]) {
  const edges = edgesOf(model)
  return picks.flatMap(({ source: from, destination: to, port, user }) => {
    const source = edges[from % edges.length]
    const others = edges.filter((edge) => edge.family === source?.family && !isGateway(edge))
    const destination = others[to % others.length]
    if (source === undefined || destination === undefined) return []
    return [{ source, destination, port, user: isGateway(source) ? user : null }]
  })
}

function expected(decision: Decision): 'connected' | 'reset' | 'timeout' {
  if (decision.verdict !== 'block') return 'connected'
  return decision.because === 'policy' && decision.document.action === 'drop' ? 'timeout' : 'reset'
}

function totalName(decision: Decision): string | null {
  switch (decision.because) {
    case 'policy':
      return `${decision.verdict} ${decision.document.name}`
    case 'exemption':
      return 'allowed exemption'
    case 'other-port':
    case 'ungoverned':
      return null
    default:
      return 'allowed relay'
  }
}

function expectedTotals(decisions: readonly Decision[]): Record<string, number> {
  const totals: Record<string, number> = {}
  for (const decision of decisions) {
    const name = totalName(decision)
    // A SYN that nobody answers may be sent again, so how often is not known.
    if (name !== null && expected(decision) !== 'timeout') totals[name] = (totals[name] ?? 0) + 1
  }
  return sorted(totals)
}

async function totalsByName(
  ruleset: Ruleset,
  decisions: readonly Decision[],
): Promise<Record<string, number>> {
  const state = await field.nft.readState()
  const unsure = new Set(decisions.filter((one) => expected(one) === 'timeout').map(totalName))
  const totals: Record<string, number> = {}
  for (const { id, what } of ruleset.totals) {
    const packets = state?.totals.get(id) ?? 0
    const name =
      what.of === 'attempts'
        ? `${what.verdict} ${what.policy}`
        : what.of === 'allowed'
          ? `allowed ${what.because}`
          : null
    if (name !== null && packets > 0 && !unsure.has(name)) totals[name] = packets
  }
  return sorted(totals)
}

function sorted(record: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Fails with the lines that differ: a whole table is too much to read. */
function same(found: unknown, wanted: unknown, what: string): void {
  const lines = (value: unknown) =>
    (Array.isArray(value) ? value : JSON.stringify(value, null, 1).split('\n')) as string[]
  const [left, right] = [lines(found), lines(wanted)]
  const only = (these: string[], those: string[]) => these.filter((line) => !those.includes(line)).join('\n')
  if (left.join('\n') === right.join('\n')) return
  throw new Error(`${what}: found\n${only(left, right)}\nwanted\n${only(right, left)}`)
}

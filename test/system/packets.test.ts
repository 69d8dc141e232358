/**
 * Packets by hand against the real kernel: every shape of TCP to port 25 is held, every shape of everything else passes,
 * and a flood is held and counted to the last packet.
 */
import t from 'tap'
import type { Exchange } from '../../scripts/lab/wire.ts'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { formatPrefix } from '../../src/policy/prefix.ts'
import { type Arena, openArena } from '../golden/arena.ts'
import { lastFrame } from '../golden/differential.ts'
import { openFlood, syn4, syn6 } from '../golden/flood.ts'
import { destinationOf, ethernet, isLaterFragment } from '../golden/frames.ts'
import { type OddPacket, opaqueShapes, openings, otherProtocols, tcpShapes } from '../golden/odd-packets.ts'
import { type Document, sound } from '../golden/random.ts'

const arena = await openArena()
t.teardown(() => arena.close())
const flood = openFlood(arena.lab)

const everybody = (action: string): Document[] => [
  { kind: 'policy', name: 'everybody', networks: ['0.0.0.0/0', '::/0'], action },
  // Whom nobody here asks for, so that its being a relay lets nobody through.
  { kind: 'relay', name: 'mx', addresses: ['192.0.2.25', '2001:db8::25'], clients: ['192.0.2.26'] },
]

const GOVERNED = ['100.64.0.0/16', '2001:db8:100::/48']

/** Every kind of document and everything that they can say, around a source that is governed. */
const everything = (action: string): Document[] => [
  ...everybody(action),
  {
    kind: 'policy',
    name: 'these',
    networks: [...GOVERNED, '@branch'],
    action,
    detection: { ipv6_prefix: 128 },
  },
  { kind: 'policy', name: 'watched', networks: ['100.65.0.0/16', '2001:db8:165::/48'], mode: 'observe' },
  { kind: 'policy', name: 'silent', networks: ['100.66.0.0/16', '2001:db8:166::/48'], action: 'drop' },
  { kind: 'list', name: 'branch', prefixes: ['10.20.0.0/16', '2001:db8:200::/48'], file: true },
  { kind: 'relay', name: 'users', addresses: ['192.0.2.40'], users: ['daemon'], clients: ['@branch'] },
  {
    kind: 'exemption',
    name: 'one-place',
    sources: GOVERNED,
    destinations: ['198.51.100.0/28', '2001:db8:fffe::/64'],
  },
  { kind: 'exemption', name: 'over', sources: GOVERNED, expires: '2020-01-01T00:00:00Z' },
  { kind: 'exemption', name: 'slow', sources: ['100.64.9.9', '2001:db8:100:9::9'], rate: '1/day' },
  { kind: 'exemption', name: 'free', sources: ['100.64.8.8'], expires: '2099-01-01T00:00:00Z' },
  {
    kind: 'test',
    name: 'submission',
    expect: [{ from: '100.64.1.2', to: '203.0.113.9', port: 587, verdict: 'allow' }],
  },
]

async function inForce(documents: readonly Document[]): Promise<Ruleset> {
  const ruleset = compile(await arena.load(sound(documents)), DEFAULT_COMPILE_OPTIONS)
  await arena.apply(ruleset)
  return ruleset
}

/** How packets lie in the kernel's memory, of which it depends by which way it looks at them. */
type Memory = 'heads' | 'pages'

/** Sends all of it, and says what came to where, by destination; later fragments say nothing of a port. */
async function send(odd: readonly OddPacket[], memory: Memory = 'heads') {
  const frames = odd.flatMap(({ packets }) => packets.map((packet) => ethernet('subscribers', packet)))
  const arrived = memory === 'heads' ? await sendHeads(frames) : await sendPages(frames)
  const at = (place: string, later: boolean) =>
    new Set(
      arrived.flatMap(({ at, frame }) => {
        const destination = at === place && (later || !isLaterFragment(frame)) ? destinationOf(frame) : null
        return destination === null ? [] : [formatPrefix(destination)]
      }),
    )
  const [inGateway, onInternet, withLater] = [
    at('gateway', true),
    at('internet', false),
    at('internet', true),
  ]
  const names = (those: Set<string>, these = odd) =>
    these.filter(({ ends }) => those.has(formatPrefix(ends.destination))).map(({ what }) => what)
  return {
    inGateway: names(inGateway),
    onInternet: names(onInternet),
    /** Counting an orphan among what passed. */
    onInternetAtAll: names(withLater),
  }
}

async function sendHeads(frames: readonly Buffer[]): Promise<Exchange['arrived']> {
  const steps = frames.map((frame) => ({ side: 'subscribers', frame }) as const)
  return (await arena.wire.exchange(steps, lastFrame())).arrived
}

/** By another program, perhaps on another processor: all have arrived when its own last frame has. */
async function sendPages(frames: readonly Buffer[]): Promise<Exchange['arrived']> {
  const last = lastFrame()
  await flood.sendFrames([...frames, last])
  const all: Exchange['arrived'][number][] = []
  for (const deadline = performance.now() + 60_000; ; ) {
    const { arrived } = await arena.wire.exchange([], lastFrame())
    all.push(...arrived)
    const mark = last.subarray(-8)
    if (all.some(({ at, frame }) => at === 'internet' && frame.subarray(-8).equals(mark))) return all
    if (performance.now() > deadline) throw new Error('the last frame did not arrive')
  }
}

const whatOf = (odd: readonly OddPacket[]) => odd.map(({ what }) => what)

async function attemptsOf(of: Arena, ruleset: Ruleset): Promise<number> {
  const counted = [...(await of.counted(ruleset))]
  return counted.reduce((sum, [name, packets]) => (name.startsWith('attempts ') ? sum + packets : sum), 0)
}

for (const action of ['reject', 'drop', 'redirect']) {
  for (const [what, documents, memory] of [
    ['one policy', everybody(action), 'heads'],
    ['one policy', everybody(action), 'pages'],
    ['every kind of document', everything(action), 'heads'],
    ['every kind of document', everything(action), 'pages'],
  ] as const) {
    t.test(`to port 25 nothing passes: ${action}, ${what}, in ${memory}`, async (t) => {
      const ruleset = await inForce(documents)
      const odd = tcpShapes(25)
      t.ok(odd.length > 70, `${odd.length} kinds of packet`)
      const { inGateway, onInternet } = await send(odd, memory)
      t.strictSame(inGateway, whatOf(odd), 'each came to the gateway')
      t.strictSame(onInternet, [], 'none came to the internet')
      // Where destinations are changed, conntrack puts fragments together first.
      const attempts = odd.filter((one) => (action === 'redirect' ? one.attemptWhole : one.attempt))
      t.equal(
        await attemptsOf(arena, ruleset),
        attempts.length,
        'what is a SYN counts as an attempt, and nothing else',
      )
    })
  }
}

t.test('beyond its rate nobody opens a connection in another way', async (t) => {
  await inForce([
    ...everybody('reject'),
    { kind: 'exemption', name: 'slow', sources: ['100.64.1.2', '2001:db8:100::2'], rate: '1/day' },
  ])
  const first = openings(25).filter(({ attempt }) => attempt)
  t.strictSame((await send(first)).onInternet, whatOf(first), 'the first passes, of each family')
  const odd = openings(25)
  const { inGateway, onInternet } = await send(odd)
  t.strictSame(inGateway, whatOf(odd), 'each came to the gateway')
  t.strictSame(onInternet, [], 'none came to the internet')
})

for (const action of ['reject', 'drop', 'redirect']) {
  for (const [what, documents, memory] of [
    ['one policy', everybody(action), 'heads'],
    ['one policy', everybody(action), 'pages'],
    ['every kind of document', everything(action), 'heads'],
    ['every kind of document', everything(action), 'pages'],
  ] as const) {
    t.test(`everything else passes: ${action}, ${what}, in ${memory}`, async (t) => {
      const ruleset = await inForce(documents)
      const ports = [24, 26, 465, 587, 2525, 25 << 8].flatMap((port) => tcpShapes(port))
      const odd = [...ports, ...otherProtocols(), ...opaqueShapes()]
      const { inGateway, onInternetAtAll } = await send(odd, memory)
      t.strictSame(inGateway, whatOf(odd), 'each came to the gateway')
      // Where destinations are changed the kernel keeps an orphan, in the hope of the rest.
      const passing = odd.filter(({ orphan }) => !(orphan && isWhole(ruleset)))
      t.strictSame(onInternetAtAll, whatOf(passing), 'each came to the internet')
      t.strictSame([...(await arena.counted(ruleset))], [], 'and none was counted')
    })
  }
}

function isWhole({ chains }: Ruleset): boolean {
  return chains.some(({ base }) => base?.type === 'nat')
}

const FLOODED = `kind: policy
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
`

t.test('a flood from more sources than are tracked: nothing passes, all is counted', async (t) => {
  const tracked = 1_024
  const { send, witness } = flood
  const ruleset = compile(await arena.load({ documents: [], files: new Map(), yaml: FLOODED }), {
    ...DEFAULT_COMPILE_OPTIONS,
    trackedSources: tracked,
  })
  await arena.apply(ruleset)
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
  t.equal(await attemptsOf(arena, ruleset), 70_000, 'the totals are exact')
  const counted = await arena.counted(ruleset)
  for (const set of ['sources4', 'sources6-64']) {
    const counters = [...counted].flatMap(([name, packets]) => (name.startsWith(`${set} `) ? [packets] : []))
    t.equal(counters.length, tracked, `${set} is full`)
    t.ok(Math.max(...counters) < 1_000, 'with the sources each by itself')
  }

  // Rates are learned too: with no room left, who has one is refused, not let through.
  await send(syn4('100, 96, drnd(2)', '203.0.113.3'), 20_000)
  const passed = (await onInternet())['203.0.113.3'] ?? 0
  t.ok(passed > 0 && passed <= tracked, `${passed} of 20,000 passed where ${tracked} have a rate of one each`)
  t.equal(await attemptsOf(arena, ruleset), 90_000 - passed, 'and the rest is counted')
  await send(syn4('100, 65, 12, 7', '203.0.113.4'), 10)
  t.equal((await onInternet())['203.0.113.4'], 10, 'who is exempt still sends')
})

/**
 * What must hold for every change of policy, shown with the real kernel: cut connections, rates, users, and deltas. Each
 * run is the same; with another SEED in the environment there are other policies, with RUNS it is so many times as long.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import { type CompileOptions, DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { runProcess } from '../../src/kernel/process.ts'
import { findUserIds } from '../../src/kernel/users.ts'
import { decide } from '../../src/policy/decide.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { Model } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import { attemptOf, isGateway, openField } from '../golden/field.ts'
import { edgesOf, pairs } from '../golden/random.ts'
import { beforeItsEnd, untilItEnds } from './ends.ts'
import { normalListing } from './listing.ts'

const NOW = Date.now()
const SEED = Number(process.env['SEED'] ?? 25)
const RUNS = Number(process.env['RUNS'] ?? 1)
const PAIRS = 25 * RUNS
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
  const overlay = new Map([['policies.yaml', yaml]])
  const { model, diagnostics } = await loadPolicies(empty, { now: NOW, overlay })
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
  const sendAll = async (ids: readonly number[], options = {}) => {
    const outcomes = await Promise.all(ids.map((id) => probe.send(id, options)))
    return outcomes.map((outcome, index) => `${everybody[index]}: ${outcome}`)
  }
  const ok = everybody.map((host) => `${host}: ok`)
  const cut = everybody.map((host) => `${host}: ${cutAs(host)}`)
  /** Some wait in vain. */
  const CUT = { timeoutMs: 900 }

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
    t.strictSame(await sendAll(held, CUT), cut, 'when it is gone')
    t.strictSame([...programs], ['nft'], 'by nft alone')
    t.equal(await connect('100.64.1.1', '203.0.113.9'), 'reset', 'and nothing new begins')
    await Promise.all(held.map((id) => probe.release(id)))
  })

  t.test('are cut with the next packet when their exemption ends, and nobody does anything', async (t) => {
    const exemptions = (expires: string) => `
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
    const { end, done } = await beforeItsEnd(async (end) => {
      const expires = new Date(end).toISOString().replace('.000', '')
      await new Enforcer(field.nft, null).apply(await rulesetOf(policies + exemptions(expires)))
      const held = await holdAll()
      return { held, outcomes: await sendAll(held) }
    })
    const { held, outcomes } = done
    t.strictSame(outcomes, ok, 'until its end')
    await untilItEnds(end)
    t.strictSame(await sendAll(held, CUT), cut, 'and not after it')
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
    for (let i = 0; i < 1_000 && (await open()).includes(to); i++) await sleep(25)
    t.notMatch(await open(), to, `the server at ${to} has seen the end`)
    t.equal(await connect(from, to, 25, 'nobody'), 'reset', 'and others still send nothing')
  }
  t.equal((await attempts(ruleset)) - before, 2, 'nothing of it is counted as an attempt')
})

t.test('a delta leads to what a replacement leads to, and forgets nothing', async (t) => {
  let appended = 0
  await fc.assert(
    fc.asyncProperty(
      pairs,
      fc.array(fc.nat(), { minLength: 4, maxLength: 4 }),
      async ([before, after], picks) => {
        const [model, changed] = [await modelOf(before.yaml), await modelOf(after.yaml)]
        const [from, to] = [compile(model, OPTIONS), compile(changed, OPTIONS)]
        const state = await mkdtemp(join(tmpdir(), 'egress25-boot-'))
        await using _ = {
          [Symbol.asyncDispose]: () => rm(state, { recursive: true, force: true, maxRetries: 9 }),
        }
        const enforcer = new Enforcer(field.nft, state)
        await enforcer.apply(from)
        await tryOut(model, picks)
        const counted = await allCounters(from, to)
        const { how, digest } = await enforcer.apply(to)
        if (how === 'replacement') throw new Error('the kernel refused the delta, or there was none')
        const remembered = await allCounters(from, to)
        same(remembered, counted, 'counters')
        const table = await listing()
        if (how === 'delta') appended++
        await enforcer.apply(from)
        await enforcer.apply(to)
        const { code, stderr } = await field.inGateway(['nft', '-f', join(state, 'ruleset.nft')], {
          timeout: 60_000,
        })
        if (code !== 0) throw new Error(`the boot file: ${stderr}`)
        same(table, await listing(), 'the table after a boot')
        await field.nft.apply(renderReplacement(to).text)
        same(table, await listing(), 'the table')
        same(digest, renderReplacement(to).digest, 'digest')
        const changes = (await readdir(join(state, 'changes'))).length
        same(changes, how === 'delta' ? 3 : 0, 'changes kept beside the script')
      },
    ),
    { numRuns: PAIRS, seed: SEED },
  )
  t.ok(appended >= PAIRS / 2, `${appended} pairs changed by a delta`)
})

t.test(
  'a list that outgrows the room that was made for it is written anew, and nothing is forgotten',
  async (t) => {
    const withList = async (count: number) => {
      const list = Array.from(
        { length: count },
        (_, i) => `100.${64 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
      )
      const yaml = `
kind: policy
name: pool
networks: [100.64.0.0/10]
---
kind: list
name: l
file: l.txt
---
kind: exemption
name: e
sources: ["@l"]
`
      const overlay = new Map([
        ['p.yaml', yaml],
        ['l.txt', list.join('\n')],
      ])
      const { model } = await loadPolicies(import.meta.dirname, { now: NOW, overlay })
      return compile(model!, OPTIONS)
    }
    const enforcer = new Enforcer(field.nft, null)
    const some = await withList(20_000)
    await enforcer.apply(some)
    t.equal(await connect('100.64.0.7', '203.0.113.9'), 'connected')
    t.equal(await connect('100.70.0.7', '203.0.113.9'), 'reset')
    t.equal((await field.counters('sources4')).get('100.70.0.7'), 1)
    const { how, elements } = await enforcer.apply(await withList(30_000))
    t.same([how, elements], ['delta', 10_000], 'there is room for as many again')
    t.equal((await enforcer.apply(await withList(90_000))).how, 'replacement')
    t.equal((await field.counters('sources4')).get('100.70.0.7'), 1)
    t.equal((await enforcer.apply(await withList(20_000))).how, 'delta')
    const changed = await listing()
    await field.nft.apply(renderReplacement(some).text)
    t.same(changed, await listing())
  },
)

t.test('a replacement remembers what the kernel has counted and learned', async (t) => {
  const ruleset = await rulesetOf(`
kind: policy
name: pool
networks: [100.64.0.0/10, "2001:db8:100::/40"]
---
kind: exemption
name: mail-server
sources: [100.64.12.7]
`)
  const first = new Enforcer(field.nft, null)
  await first.apply(ruleset)
  for (let i = 0; i < 3; i++) await connect('100.64.1.2', '203.0.113.9')
  await connect('2001:db8:100:1::2', '2001:db8:ffff::9')
  await connect('100.64.12.7', '203.0.113.9')
  const counted = await allCounters(ruleset, ruleset)
  t.equal(counted['sources4 100.64.1.2'], 3)
  await first.restore('everything')
  t.same(await allCounters(ruleset, ruleset), counted, 'healed')
  await connect('100.64.1.2', '203.0.113.9')
  t.equal((await field.counters('sources4')).get('100.64.1.2'), 4, 'and counting goes on')
  await first.restore('rules')
  t.equal((await field.counters('sources4')).get('100.64.1.2'), 4, 'also when only the rules are put right')
  // A service that starts anew, with other policies than those it finds.
  const other = await rulesetOf(`
kind: policy
name: pool
networks: [100.64.0.0/10, "2001:db8:100::/40"]
`)
  const { how } = await new Enforcer(field.nft, null).apply(other)
  t.equal(how, 'replacement')
  const { 'sources4 100.64.1.2': machine, 'sources6-64 2001:db8:100:1::': network } = await allCounters(
    ruleset,
    other,
  )
  t.same([machine, network], [4, 1])
})

/** Some connections, so that there is something to forget; with their ends, which are counted, too. */
async function tryOut(model: Model, picks: readonly number[]): Promise<void> {
  const edges = edgesOf(model).filter((address) => !isGateway(address))
  const packets = picks.flatMap((pick) => {
    const source = edges[pick % edges.length]
    if (source === undefined) return []
    const destination = parseAddress(source.family === 4 ? '203.0.113.9' : '2001:db8:ffff::9') as Prefix
    return [{ source, destination, port: 25 }]
  })
  const quick = packets.filter((packet) => {
    const decision = decide(model, packet, NOW)
    return decision.verdict !== 'block' || decision.document.action !== 'drop'
  })
  // Of tests before, some were cut, and never learn of it.
  const before = await underWay()
  await Promise.all(
    quick.map(async (packet) => (await field.probe(packet.source, null)).connect(attemptOf(packet))),
  )
  for (let i = 0; i < 1_000; i++) {
    if ((await underWay()).every((one) => before.includes(one))) return
    await sleep(25)
  }
  throw new Error(`still under way: ${await underWay()}`)
}

/** Connections to port 25 that have not come to their end, as each side of the gateway knows them. */
async function underWay(): Promise<string[]> {
  const { subscribers, relays, gateway, internet } = field.lab
  const argv = ['ss', '-Htan', 'state', 'connected', 'exclude', 'time-wait', '( sport = :25 or dport = :25 )']
  const found = await Promise.all(
    [subscribers, relays, gateway, internet].map(async (place) => {
      const { stdout } = await field.lab.exec(place, argv)
      return [...stdout.matchAll(/(\S+) +(\S+) *$/gm)].map(([, local, peer]) => `${place} ${local} ${peer}`)
    }),
  )
  return found.flat()
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
  const { code, stdout, stderr } = await field.inGateway(argv, { timeout: 60_000 })
  if (code !== 0) throw new Error(stderr)
  const state = await field.nft.readState()
  return [`digest ${state?.digest}`, ...normalListing(stdout)]
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

/** `action: redirect`, with real connections: who lands at the relay, who does not, and what is counted. */
import t from 'tap'
import { openLab } from '../../scripts/lab/lab.ts'
import type { Probe } from '../../scripts/lab/probe.ts'
import { gatewayAddress } from '../../scripts/lab/topology.ts'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { decide } from '../../src/policy/decide.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { Model } from '../../src/policy/model.ts'
import { type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import { RunningTotals } from '../../src/watch/totals.ts'
import { beforeItsEnd, untilItEnds } from './ends.ts'
import { until } from './gateway.ts'

const SUBSCRIBERS = ['100.64.0.0/10', '100.200.0.0/16', '10.0.0.0/8', '2001:db8:100::/40']

/** One exemption ends soon. */
const policiesUntil = (end: number) => `kind: policy
name: diverted
networks: [100.64.0.0/10, "2001:db8:100::/40", ${gatewayAddress.ipv4}]
action: redirect
redirect_to: mx
---
kind: policy
name: inner
networks: [100.64.5.0/24]
---
kind: policy
name: four-only
networks: [100.80.0.0/16, "2001:db8:180::/48"]
action: redirect
redirect_to: mx4
---
kind: policy
name: watched
networks: [100.81.0.0/16]
mode: observe
action: redirect
redirect_to: mx
---
kind: relay
name: mx
addresses: [192.0.2.0/29, 192.0.2.25, "2001:db8::25"]
clients: [10.0.0.0/8]
---
kind: relay
name: mx4
addresses: [192.0.2.44]
---
kind: exemption
name: free
sources: [100.64.12.7]
---
kind: exemption
name: slow
sources: [100.64.12.8]
rate: 2/day
---
kind: exemption
name: brief
sources: [100.64.12.9, "2001:db8:100::9"]
expires: ${new Date(end).toISOString()}
`

async function policies(end: number): Promise<Model> {
  // Laid over a folder that has none of its own.
  const { model, diagnostics } = await loadPolicies(import.meta.dirname, {
    now: Date.now(),
    overlay: new Map([['p.yaml', policiesUntil(end)]]),
  })
  if (model === null) throw new Error(JSON.stringify(diagnostics))
  return model
}

t.test('redirect', async (t) => {
  const lab = await openLab({ subscriberPrefixes: SUBSCRIBERS })
  t.teardown(() => lab.close())
  const inGateway: ProcessRunner = (argv, options) =>
    runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], options)
  const enforcer = new Enforcer(openNft(inGateway), null)
  const internet = await lab.probe(lab.internet)
  const relays = await lab.probe(lab.relays)
  for (const side of [internet, relays]) await side.listen([25, 26, 465, 587], { echo: true })
  const client = await lab.client()

  /** Where a connection ends up: at its destination, at which address of a relay, or how it fails. */
  const trace = async (from: string, to: string, port = 25, by: Probe = client): Promise<string> => {
    await Promise.all([internet.accepted(), relays.accepted()])
    const outcome = await by.connect({ from, to, port })
    if (outcome !== 'connected') return outcome
    // The one who connects may know a moment earlier than the one who accepts.
    const landed = await until(`where ${from} landed`, async () => {
      const [there, here] = await Promise.all([internet.accepted(), relays.accepted()])
      const found = [...there.map((a) => a.to), ...here.map((a) => `relay ${a.to}`)]
      return found.length > 0 && found
    })
    return [outcome, ...landed].join(' ')
  }
  // Done in time for what happens before its end.
  const { end, done } = await beforeItsEnd(async (end) => {
    const model = await policies(end)
    const ruleset = compile(model, DEFAULT_COMPILE_OPTIONS)
    await enforcer.apply(ruleset)
    const before = await trace('100.64.12.9', '203.0.113.9')
    return { model, ruleset, before: [before, await trace('2001:db8:100::9', '2001:db8:ffff::9')] }
  })
  const { model, ruleset, before } = done
  const verdict = (from: string, to: string) => {
    const [source, destination] = [parseAddress(from) as Prefix, parseAddress(to) as Prefix]
    return decide(model, { source, destination, port: 25 }, Date.now()).verdict
  }
  const totals = new RunningTotals()
  const attempts = async (policy: string, kind: string) => {
    totals.update(ruleset.totals, (await enforcer.readState())?.totals ?? new Map())
    const found = totals
      .sums()
      .find(({ what }) => what.of === 'attempts' && what.policy === policy && what.verdict === kind)
    return found?.packets ?? 0
  }

  t.test(
    'governed hosts land at the relay, IPv4 and IPv6, and the exempt at their destination until they are not',
    async (t) => {
      t.same(before, ['connected 203.0.113.9', 'connected 2001:db8:ffff::9'])
      const were = await attempts('diverted', 'redirect')
      t.equal(await trace('100.64.1.2', '203.0.113.9'), 'connected relay 192.0.2.25')
      t.equal(verdict('100.64.1.2', '203.0.113.9'), 'redirect')
      t.equal(await trace('2001:db8:100::2', '2001:db8:ffff::9'), 'connected relay 2001:db8::25')
      t.equal(await trace('100.64.12.7', '203.0.113.9'), 'connected 203.0.113.9')
      t.equal(await attempts('diverted', 'redirect'), were + 2)
      t.equal(await attempts('diverted', 'block'), 0)
      await untilItEnds(end)
      t.equal(await trace('100.64.12.9', '203.0.113.9'), 'connected relay 192.0.2.25')
      t.equal(await trace('2001:db8:100::9', '2001:db8:ffff::9'), 'connected relay 2001:db8::25')
    },
  )

  t.test('the longest match decides here too, and a family without a target is refused', async (t) => {
    t.equal(await trace('100.64.5.9', '203.0.113.9'), 'reset')
    t.equal(await trace('100.80.1.2', '203.0.113.9'), 'connected relay 192.0.2.44')
    t.equal(await trace('2001:db8:180::2', '2001:db8:ffff::9'), 'reset')
    t.equal(verdict('2001:db8:180::2', '2001:db8:ffff::9'), 'block')
    t.equal(await trace('100.81.1.2', '203.0.113.9'), 'connected 203.0.113.9')
    t.equal(await attempts('watched', 'observe'), 1)
    t.equal(await attempts('four-only', 'block'), 1)
  })

  t.test('beyond its rate an exempt host is refused, not redirected', async (t) => {
    t.equal(await trace('100.64.12.8', '203.0.113.9'), 'connected 203.0.113.9')
    t.equal(await trace('100.64.12.8', '203.0.113.9'), 'connected 203.0.113.9')
    t.equal(await trace('100.64.12.8', '203.0.113.9'), 'reset')
  })

  t.test('the way back works for as long as a conversation lasts', async (t) => {
    for (const [from, to] of [
      ['100.64.1.3', '203.0.113.9'],
      ['2001:db8:100::3', '2001:db8:ffff::9'],
    ] as const) {
      const id = await client.hold({ from, to, port: 25 })
      for (const text of ['EHLO a\r\n', 'x'.repeat(100_000), 'QUIT\r\n'])
        t.equal(await client.send(id, { text }), 'ok')
      await client.release(id)
    }
  })

  t.test('nothing but port 25 is touched', async (t) => {
    for (const port of [26, 465, 587])
      t.equal(await trace('100.64.1.2', '203.0.113.9', port), 'connected 203.0.113.9')
  })

  t.test('the relay itself is not redirected, and ungoverned hosts are left alone', async (t) => {
    t.equal(await trace('192.0.2.25', '203.0.113.9', 25, relays), 'connected 203.0.113.9')
    t.equal(await trace('10.1.1.1', '192.0.2.44'), 'connected relay 192.0.2.44')
    t.equal(await trace('100.200.1.1', '203.0.113.9'), 'connected 203.0.113.9')
  })

  t.test('programs on the gateway itself', async (t) => {
    const local = await lab.probe(lab.gateway)
    t.equal(await trace(gatewayAddress.ipv4, '203.0.113.9', 25, local), 'connected relay 192.0.2.25')
    t.equal(await trace(gatewayAddress.ipv4, '203.0.113.9', 587, local), 'connected 203.0.113.9')
  })

  t.test('what is for the gateway itself is not outbound', async (t) => {
    const local = await lab.probe(lab.gateway)
    await local.listen([25])
    const connected = await client.connect({ from: '100.64.1.2', to: gatewayAddress.ipv4, port: 25 })
    t.equal(connected, 'connected')
  })

  t.test("somebody else's change of destination is judged as what it becomes", async (t) => {
    await inGateway(['nft', '-f', '-'], {
      timeout: 60_000,
      input: `table ip foreign { chain c { type nat hook prerouting priority -110; policy accept
        ip saddr 203.0.113.200 tcp dport 25 dnat to 100.64.77.7
        ip saddr 100.64.5.9 tcp dport 25 dnat to 198.51.100.9
      } }`,
    })
    await client.listen([25])
    t.equal(await internet.connect({ from: '203.0.113.200', to: '203.0.113.77', port: 25 }), 'connected')
    t.equal(await trace('100.64.5.9', '203.0.113.9'), 'reset', 'a policy that blocks still blocks')
  })

  t.test('another target by delta: the old one gets nothing more', async (t) => {
    const moved = model.policies.map((policy) =>
      policy.name === 'diverted' && policy.redirect !== null
        ? { ...policy, redirect: { ...policy.redirect, target4: parseAddress('192.0.2.5') } }
        : policy,
    )
    const held = await client.hold({ from: '100.64.1.4', to: '203.0.113.9', port: 25 })
    t.equal(
      (await enforcer.apply(compile({ ...model, policies: moved }, DEFAULT_COMPILE_OPTIONS))).how,
      'delta',
    )
    t.equal(await client.send(held), 'reset')
    t.equal(await trace('100.64.1.2', '203.0.113.9'), 'connected relay 192.0.2.5')
  })
})

/** What a gateway looks after besides its rules: the machine, exemptions that end, redirected connections, the lock. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { parseConfig } from '../../src/config/config.ts'
import {
  lapseKey,
  lapseNews,
  revocationKey,
  revocationNews,
} from '../../src/control/exemptions/exemption-news.ts'
import { type EndingExemption, endingsOf, LapseWatch } from '../../src/control/exemptions/lapse-watch.ts'
import { PreflightWatch } from '../../src/control/preflight-watch.ts'
import { endKey, lapsesDue } from '../../src/exemptions/lapses.ts'
import { openConntrack } from '../../src/kernel/conntrack.ts'
import { LockedError, withLock } from '../../src/kernel/lock.ts'
import { machineFiles } from '../../src/kernel/machine-files.ts'
import { findInterference } from '../../src/kernel/other-tables.ts'
import { type Finding, Preflight, type Situation } from '../../src/kernel/preflight.ts'
import { ProcessError, type ProcessRunner } from '../../src/kernel/process.ts'
import { isGoverned, redirectionOf } from '../../src/kernel/redirection.ts'
import { decide, governingPolicy } from '../../src/policy/decide.ts'
import { type Loaded, loadPolicies } from '../../src/policy/load.ts'
import type { Model } from '../../src/policy/model.ts'
import { formatPrefix, type Prefix, parseAddress } from '../../src/policy/prefix.ts'
import { AlertQueue } from '../../src/store/alert-queue.ts'
import { inTransaction, openDatabase } from '../../src/store/database.ts'
import { LapseStore } from '../../src/store/lapses.ts'
import './seed.ts'

const DAY = 86_400_000
const NOW = Date.parse('2026-06-01T00:00:00Z')

async function folder(test: Test, files: Record<string, string> = {}): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'egress25-gateway-'))
  test.teardown(() => rm(root, { recursive: true, force: true, maxRetries: 9 }))
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return root
}

async function load(text: string): Promise<Loaded & { model: Model }> {
  const loaded = await loadPolicies(import.meta.dirname, { now: NOW, overlay: new Map([['p.yaml', text]]) })
  if (loaded.model === null) throw new Error(JSON.stringify(loaded.diagnostics))
  return { ...loaded, model: loaded.model }
}

const address = (text: string) => parseAddress(text) as Prefix

/** Programs by the start of their command line. */
function programs(answers: Record<string, string | ProcessError>, started: string[] = []): ProcessRunner {
  return async (argv) => {
    const line = argv.join(' ')
    started.push(argv[1] === '-R' ? `conntrack -R < ${await readFile(argv[2] ?? '', 'utf8')}` : line)
    const answer = Object.entries(answers).find(([start]) => line.startsWith(start))?.[1]
    if (answer === undefined) throw new ProcessError('missing', `${argv[0]} is not installed`)
    if (answer instanceof ProcessError) throw answer
    return answer.startsWith('fail:')
      ? { code: 1, stdout: '', stderr: answer.slice(5) }
      : { code: 0, stdout: answer, stderr: '' }
  }
}

const ROUTER = {
  'proc/sys/net/ipv4/ip_forward': '1\n',
  'proc/sys/net/ipv6/conf/all/forwarding': '1\n',
  'run/systemd/timesync/synchronized': '',
}
const GATEWAY = { hooks: ['forward', 'output'], outsideInterfaces: [], priority: -5 } as const
const SITUATION: Situation = { gateway: GATEWAY, families: [4, 6], redirects: true, elements: 10 }
const HEALTHY = { 'nft --version': 'nftables v1.0.6 (x)\n', 'nft -t': '', 'conntrack -C': '0\n' }

const table = (rule: string, base = 'type filter hook forward priority -10; policy accept;') =>
  `table inet other {\n\tchain c {\n\t\t${base}\n\t\t${rule}\n\t}\n}\n`
const NAT = 'type nat hook prerouting priority -110; policy accept;'

t.test('preflight', async (t) => {
  const look = async (
    files: Record<string, string>,
    answers: Record<string, string | ProcessError>,
    situation: Partial<Situation> = {},
  ) =>
    new Preflight(machineFiles(await folder(t, files)), programs(answers)).look({
      ...SITUATION,
      ...situation,
    })
  const codes = async (...of: Parameters<typeof look>) => (await look(...of)).map(({ code }) => code)

  t.test('a healthy router: nothing', async (t) => {
    t.same(await look(ROUTER, HEALTHY), [])
  })

  t.test('what cannot be looked at is not warned of', async (t) => {
    t.same(await look({}, HEALTHY), [])
    const silent = new ProcessError('timeout', 'no end')
    t.same(
      await look({}, { nft: silent, conntrack: silent, timedatectl: silent }),
      [],
      'nor what does not come to an end',
    )
  })

  t.test('forwarding', async (t) => {
    const off = { ...ROUTER, 'proc/sys/net/ipv6/conf/all/forwarding': '0\n' }
    const [finding, ...more] = await look(off, HEALTHY)
    t.same(more, [])
    t.match(finding, {
      code: 'forwarding-off',
      message: /IPv6 .*net\.ipv6\.conf\.all\.forwarding.*hooks: \[output\]/,
    })
    t.same(await look(off, HEALTHY, { families: [4] }), [], 'nobody is governed in this family')
    t.same(await look(off, HEALTHY, { gateway: { ...GATEWAY, hooks: ['output'] } }), [])
    const without = { ...off, 'proc/sys/net/ipv6/conf/eth0/disable_ipv6': '1\n' }
    t.same(await look(without, HEALTHY), [], 'there is no IPv6')
    const inPart = { ...without, 'proc/sys/net/ipv6/conf/eth1/disable_ipv6': '0\n' }
    t.same(await codes(inPart, HEALTHY), ['forwarding-off'])
    const both = { ...off, 'proc/sys/net/ipv4/ip_forward': '0' }
    t.same(await codes(both, HEALTHY), ['forwarding-off', 'forwarding-off'])
    t.same(
      await look(
        {
          ...both,
          'proc/sys/net/ipv4/conf/eth0/forwarding': '1',
          'proc/sys/net/ipv6/conf/eth0/force_forwarding': '1',
        },
        HEALTHY,
      ),
      [],
      'one interface forwards by its own setting',
    )
  })

  t.test('bridges', async (t) => {
    const bridge = {
      ...ROUTER,
      'sys/class/net/br0/bridge/nf_call_iptables': '0',
      'sys/class/net/br0/brif/lan1/port_no': '',
      'sys/class/net/br0/brif/wan1/port_no': '',
      'sys/class/net/lan1/brport/state': '3',
      'sys/class/net/wan1/brport/state': '3',
    }
    const [finding, ...more] = await look(bridge, HEALTHY)
    t.same(more, [])
    t.match(finding, {
      code: 'bridge-bypasses',
      message: /br0 .*lan1, wan1.*bridge-nf-call-iptables=1 and .*bridge-nf-call-ip6tables=1/,
    })
    const called = {
      'proc/sys/net/bridge/bridge-nf-call-iptables': '1',
      'sys/class/net/br0/bridge/nf_call_ip6tables': '1',
    }
    t.same(await look({ ...bridge, ...called }, HEALTHY), [], 'the kernel shows us the frames')
    t.same(await look({ ...bridge, 'sys/class/net/wan1/brport/state': '0' }, HEALTHY), [], 'one port is off')
    const route = (device: string) => ({
      'proc/self/net/route': `Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n${device}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n`,
    })
    t.same(await look({ ...bridge, ...route('wan0') }, HEALTHY), [], 'a bridge of the inside')
    t.same(await codes({ ...bridge, ...route('br0') }, HEALTHY), ['bridge-bypasses'], 'the way out is a port')
    const outside = (name: string) => ({ gateway: { ...GATEWAY, outsideInterfaces: [name] } })
    t.same(await codes({ ...bridge, ...route('wan0') }, HEALTHY, outside('wan1')), ['bridge-bypasses'])
    t.same(await look(bridge, HEALTHY, outside('wan0')), [])
  })

  t.test('outside interfaces', async (t) => {
    const devices = {
      ...ROUTER,
      'proc/self/net/dev': 'Inter-|   Receive\n face |bytes\n    lo:       1\n  eth0:       0\neth0.7: 1\n',
      'proc/self/net/route': 'Iface\tDestination\neth0\t00000000\t010200C0\t3\t0\t0\t0\t00000000\n',
    }
    const outside = (...outsideInterfaces: string[]) => ({ gateway: { ...GATEWAY, outsideInterfaces } })
    t.same(await look(devices, HEALTHY, outside('eth0', 'eth0.7')), [])
    t.match(await look(devices, HEALTHY, outside('eth0.7', 'eht0', 'ppp0')), [
      { code: 'outside-missing', message: /names eht0, ppp0, .*by eth0\)/ },
    ])
  })

  t.test('the clock', async (t) => {
    const { 'run/systemd/timesync/synchronized': _, ...files } = ROUTER
    t.same(await codes(files, { ...HEALTHY, timedatectl: 'no\n' }), ['clock-unsynchronised'])
    t.same(await look(files, { ...HEALTHY, timedatectl: 'yes\n' }), [])
    t.same(await look(files, { ...HEALTHY, timedatectl: 'fail:no bus' }), [])
  })

  t.test('nft', async (t) => {
    for (const [version, expected] of [
      ['1.0.5', 1],
      ['0.9.8', 1],
      ['1.0.6', 0],
      ['1.0.10', 0],
      ['1.1.3', 0],
      ['1.1', 0],
      ['2.0.0', 0],
    ] as const)
      t.equal(
        (await look(ROUTER, { ...HEALTHY, 'nft --version': `nftables v${version} (x)` })).length,
        expected,
        version,
      )
  })

  t.test('conntrack', async (t) => {
    const { 'conntrack -C': _, ...without } = HEALTHY
    t.match(await look(ROUTER, without), [{ code: 'conntrack-missing', message: /install the package/ }])
    t.match(await look(ROUTER, { ...HEALTHY, 'conntrack -C': 'fail:conntrack v1: failed: no support' }), [
      { code: 'conntrack-missing', message: /kernel.*no support/ },
    ])
    t.same(await look(ROUTER, without, { redirects: false }), [])
  })

  t.test(
    'tables of others are listed at most for one part in 100 of the time, and never beside a large ruleset',
    async (t) => {
      const started: string[] = []
      let time = 0
      const run = programs({ ...HEALTHY, 'nft -t': table('tcp dport 25 drop') }, started)
      const slow: ProcessRunner = async (argv, options) => {
        if (argv[1] === '-t') time += 2_000
        return run(argv, options)
      }
      const preflight = new Preflight(machineFiles(await folder(t, ROUTER)), slow, () => time)
      const listings = () => started.filter((line) => line.startsWith('nft -t')).length
      t.same(await preflight.look({ ...SITUATION, elements: 100_000 }), [])
      t.equal(listings(), 0)
      t.equal((await preflight.look(SITUATION)).length, 1)
      time += 199_000
      t.equal((await preflight.look(SITUATION)).length, 1, 'what was found is remembered')
      t.equal(listings(), 1)
      time += 1_000
      await preflight.look(SITUATION)
      t.equal(listings(), 2)
    },
  )

  t.test(
    'each finding is told once when it comes and once when it goes, and never two looks at a time',
    async (t) => {
      let found: Finding[] = []
      const told: string[] = []
      const looks: number[] = []
      const watch = new PreflightWatch({
        preflight: { look: async () => found },
        gateway: GATEWAY,
        inForce: () => null,
        onAppeared: ({ message }) => told.push(`+${message}`),
        onGone: ({ message }) => told.push(`-${message}`),
        onLooked: (findings) => looks.push(findings.length),
      })
      const one: Finding = { code: 'flowtable', message: 'one' }
      const two: Finding = { code: 'flowtable', message: 'two' }
      for (const next of [[one], [one, two], [one, two], [two], []]) {
        found = next
        await watch.look()
        t.same(watch.findings, next)
      }
      t.same(told, ['+one', '+two', '-one', '-two'])
      t.same(looks, [1, 2, 2, 1, 0])
    },
  )

  t.test('what is looked at follows what is in force', async (t) => {
    const { model } = await load(REDIRECTING)
    const seen: Situation[] = []
    const ruleset = compile(model, DEFAULT_COMPILE_OPTIONS)
    let inForce: { model: Model; ruleset: Ruleset } | null = null
    const watch = new PreflightWatch({
      preflight: {
        look: async (situation) => {
          seen.push(situation)
          return []
        },
      },
      gateway: GATEWAY,
      inForce: () => inForce,
      onAppeared: () => {},
      onGone: () => {},
      onLooked: () => {},
    })
    await watch.look()
    inForce = { model, ruleset }
    await watch.look()
    t.match(seen, [
      { families: [4, 6], redirects: false, elements: Number.POSITIVE_INFINITY },
      { families: [4, 6], redirects: true },
    ])
    t.ok((seen[1]?.elements ?? 0) > 5)
  })
})

t.test('tables of others', async (t) => {
  const find = (listing: string, outsideInterfaces: string[] = []) =>
    findInterference(listing, { ...GATEWAY, outsideInterfaces }).map(
      ({ does, before }) => `${does} ${before ? 'before' : 'after'}`,
    )
  const FORWARD = 'type filter hook forward priority -10; policy drop;'

  t.test('rules that matter', async (t) => {
    for (const rule of [
      'tcp dport 25 drop',
      'tcp dport 25 counter packets 7 bytes 300 log prefix "x" drop',
      'tcp dport { 25, 465 } reject with tcp reset',
      'ip saddr 10.0.0.0/8 tcp dport 20-30 drop',
      'meta l4proto tcp th dport 25 drop comment "spam"',
      'ip daddr != 192.0.2.25 tcp dport 25 drop',
      'tcp dport vmap { 22 : accept, 25 : drop }',
      'tcp sport 1024-65535 tcp dport 25 drop',
      'iifname "eth1" tcp dport 25 drop',
      'tcp dport 25 counter packets 0 bytes 0 xt target "REJECT"',
    ])
      t.same(find(table(rule)), ['drop before'], rule)
    for (const rule of [
      'tcp dport 25 redirect to :2525',
      'tcp dport 25 dnat to 10.0.0.1:2525',
      'iifname "br-lan" tcp dport 25 dnat ip to 10.0.0.1',
      'tcp dport 25 counter packets 0 bytes 0 xt target "REDIRECT"',
    ])
      t.same(find(table(rule, NAT)), ['divert before'], rule)
    const MANGLE = 'type filter hook prerouting priority -150; policy accept;'
    t.same(find(table('tcp dport 25 tproxy to :2525 accept', MANGLE)), ['divert before'])
    const RAW = 'type filter hook prerouting priority -300; policy accept;'
    for (const rule of [
      'tcp dport 25 notrack',
      'notrack',
      'iifname "eth1" counter packets 1 bytes 2 notrack',
    ])
      t.same(find(table(rule, RAW)), ['untrack before'], rule)
    for (const rule of [
      'meta l4proto { tcp, udp } flow add @f',
      'ct state established flow add @f',
      'tcp dport != 25 flow add @f',
      'tcp sport != 25 flow add @f',
      'tcp dport 1-65535 flow offload @f',
    ])
      t.same(find(table(rule)), ['offload before'], rule)
  })

  t.test('rules that do not', async (t) => {
    for (const rule of [
      'tcp dport 25 accept',
      'tcp dport 587 drop',
      'tcp dport != 25 drop',
      'tcp dport != 80 drop',
      'tcp dport { 465, 587 } reject',
      'udp dport 25 drop',
      'meta l4proto udp drop',
      'drop',
      'ct state invalid drop',
      'tcp dport @ports drop',
      'ip daddr 10.0.0.5 tcp dport 25 drop',
      'tcp dport 25 counter packets 7 bytes 300',
      'tcp dport 25 limit rate 5/second accept',
      'tcp dport vmap { 22 : drop, 25 : accept }',
      'tcp dport != 25 tcp sport != 25 flow add @f',
      'tcp dport { 80, 443 } flow add @f',
      'meta l4proto tcp ct original proto-dst != 25 flow add @f',
      'udp dport 53 flow add @f',
    ])
      t.same(find(table(rule)), [], rule)
    for (const rule of [
      'ip daddr 203.0.113.5 tcp dport 25 dnat to 10.0.0.5',
      'fib daddr type local tcp dport 25 dnat to 10.0.0.5',
      'tcp dport 80 redirect to :3128',
      'tcp dport 2525 dnat to 10.0.0.5:25',
    ])
      t.same(find(table(rule, NAT)), [], rule)
    t.same(find(table('iifname "wan0" tcp dport 25 drop'), ['wan0']), [], 'mail that comes in')
    t.same(find(table('iifname { "wan0", "wan1" } tcp dport 25 dnat to 10.0.0.5', NAT), ['wan0', 'wan1']), [])
    t.same(find(table('iifname != "wan0" tcp dport 25 drop'), ['wan0']), ['drop before'])
    t.same(
      find(
        'table inet egress25 {\n\tchain c {\n\t\ttype filter hook forward priority -5; policy accept;\n\t\ttcp dport 25 drop\n\t}\n}\n',
      ),
      [],
      'our own table',
    )
  })

  t.test('before us or after us, at hooks of ours', async (t) => {
    const at = (base: string) => find(table('tcp dport 25 drop', `type filter hook ${base} policy accept;`))
    t.same(at('forward priority -5;'), ['drop before'])
    t.same(at('forward priority 0;'), ['drop after'])
    t.same(at('prerouting priority 300;'), ['drop before'])
    t.same(at('ingress device "eth0" priority 0;'), ['drop before'])
    t.same(at('output priority 0;'), ['drop after'])
    t.same(at('postrouting priority 0;'), ['drop after'])
    t.same(at('input priority 0;'), [])
  })

  t.test('through chains, with the conditions on the way', async (t) => {
    const chains = (jump: string, ...rules: string[]) =>
      `table ip filter {\n\tchain a {\n\t\t${FORWARD}\n\t\t${jump}\n\t}\n\n\tchain b {\n${rules.map((rule) => `\t\t${rule}\n`).join('')}\t}\n}\n`
    t.same(find(chains('tcp dport 25 jump b', 'ip saddr 10.0.0.1 accept', 'drop')), ['drop before'])
    t.same(find(chains('tcp dport vmap { 25 : goto b }', 'tcp dport 25 drop')), ['drop before'])
    t.same(find(chains('ip daddr 10.0.0.1 jump b', 'tcp dport 25 drop')), [])
    t.same(find(chains('tcp dport 80 jump b', 'tcp dport 25 drop')), [])
    t.same(find(chains('jump b', 'jump b', 'tcp dport 25 drop')), ['drop before'], 'also in circles')
    t.same(find(chains('accept', 'tcp dport 25 drop')), [], 'a chain that nobody calls')
  })

  t.test('whatever the listing is, an answer, and the same text while only counters move', async (t) => {
    const word = fc.constantFrom(
      ...['table inet x {', '\tchain c {', '\t\t', FORWARD, 'tcp dport ', '25', '{ 25, ', '}', ' drop'],
      ...['vmap', '@s', ' flow add @', ' jump c', '\n', '\t}', '}', ' : ', '-', 'iifname ', '!= ', '"'],
    )
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), (words) => {
        findInterference(words.join(''), GATEWAY)
      }),
      { numRuns: 500 },
    )
    const rule = (packets: number) =>
      findInterference(table(`tcp dport 25 counter packets ${packets} bytes 0 drop`), GATEWAY)
    t.same(rule(1), rule(2))
  })
})

t.test('lapses', async (t) => {
  const LEADS = [7 * DAY, DAY]
  const ending = (name: string, expires: number): EndingExemption => ({
    name,
    expires,
    origin: { file: 'e.yaml', line: 1, column: 1 },
    owner: null,
    ticket: null,
    reason: null,
    sources: ['100.64.1.1'],
  })

  t.test('examples', async (t) => {
    const due = (left: number, announced?: number) => {
      const one = { name: 'a', expires: NOW + left }
      const memory = new Map(announced === undefined ? [] : [[endKey(one), announced]])
      return lapsesDue([one], memory, NOW, LEADS).map(({ lead }) => lead)[0]
    }
    t.equal(due(7 * DAY + 1), undefined)
    t.equal(due(7 * DAY), 7 * DAY)
    t.equal(due(7 * DAY, 7 * DAY), undefined)
    t.equal(due(DAY, 7 * DAY), DAY)
    t.equal(due(DAY / 2), DAY, 'late: the shortest that applies, alone')
    t.equal(due(DAY / 2, DAY), undefined)
    t.equal(due(1, DAY), undefined)
    t.equal(due(0, DAY), 0)
    t.equal(due(-400 * DAY), 0)
    t.equal(due(-400 * DAY, 0), undefined)
  })

  t.test(
    'at any times, with any leads: once for each lead, in order, never early, never after a shorter one',
    async () => {
      const time = fc.integer({ min: -20, max: 400 })
      fc.assert(
        fc.property(
          fc.array(time, { maxLength: 6 }),
          fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 4 }),
          fc.array(time, { maxLength: 30 }),
          (ends, leads, looks) => {
            const exemptions = ends.map((expires, index) => ({ name: `e${index}`, expires }))
            const announced = new Map<string, number>()
            const told = new Map<string, number[]>()
            for (const now of looks.sort((a, b) => a - b)) {
              for (const { exemption, lead } of lapsesDue(exemptions, announced, now, leads)) {
                if (exemption.expires - now > lead) return false
                if (leads.some((other) => other < lead && exemption.expires - now <= other)) return false
                announced.set(endKey(exemption), lead)
                told.set(exemption.name, [...(told.get(exemption.name) ?? []), lead])
              }
              if (lapsesDue(exemptions, announced, now, leads).length > 0) return false
            }
            const last = looks.at(-1)
            return exemptions.every(({ name, expires }) => {
              const leadsTold = told.get(name) ?? []
              const falls = leadsTold.every(
                (lead, index) => index === 0 || lead < (leadsTold[index - 1] ?? 0),
              )
              const ended = last !== undefined && expires <= last
              return falls && leadsTold.includes(0) === ended
            })
          },
        ),
        { numRuns: 2_000 },
      )
    },
  )

  t.test('owner, ticket and the rest come from the documents', async (t) => {
    const loaded = await load(`kind: policy
name: p
networks: [100.64.0.0/10]
---
kind: exemption
name: acme
sources: [100.64.1.1, 100.64.1.2]
expires: 2026-06-08T02:00:00+02:00
owner: noc@example.net
ticket: NOC-1
reason: A mail server.
---
kind: exemption
name: forever
sources: [100.64.1.3]
`)
    const [acme, ...more] = endingsOf(loaded)
    t.same(more, [])
    t.match(acme, { name: 'acme', expires: NOW + 7 * DAY, origin: { file: 'p.yaml', line: 5 } })
    const lapse = { exemption: acme as EndingExemption, lead: DAY }
    t.same(lapseNews(lapse, 'gw1', NOW), {
      event: 'exemption-lapses',
      gateway: 'gw1',
      time: '2026-06-01T00:00:00.000Z',
      severity: 'info',
      exemption: {
        name: 'acme',
        expires: '2026-06-08T00:00:00.000Z',
        owner: 'noc@example.net',
        ticket: 'NOC-1',
        reason: 'A mail server.',
        sources: ['100.64.1.1', '100.64.1.2'],
      },
    })
    t.equal(lapseNews({ ...lapse, lead: 0 }, 'gw1', NOW).event, 'exemption-lapsed')
    const many = { ...lapse, exemption: { ...lapse.exemption, sources: Array(1_000).fill('100.64.0.1') } }
    t.match(lapseNews(many, 'gw1', NOW).exemption, { sources: { length: 100 }, more_sources: 900 })
  })

  t.test('exemptions that are revoked in the same moment are told one by one', async (t) => {
    const revoked = (name: string, incident: string, time = NOW) =>
      revocationNews(
        { exemption: { kind: 'exemption', name, sources: ['100.64.1.1'] }, incident, time },
        'gw1',
      )
    const news = [
      revoked('acme', 'one'),
      revoked('other', 'one'),
      revoked('acme', 'two'),
      revoked('acme', 'one', NOW + DAY),
    ]
    t.match(news[0], {
      event: 'exemption-revoked',
      severity: 'warning',
      incident: 'one',
      exemption: { name: 'acme', expires: null, owner: null, ticket: null, reason: null },
    })
    t.equal(new Set(news.map(revocationKey)).size, news.length)
  })

  /** A watch over a database, as the service has it; `fail` makes the next transactions fail. */
  const open = (
    database: DatabaseSync,
    clock: { now: number; fail?: boolean },
    endings: EndingExemption[],
  ) => {
    const queue = new AlertQueue(database)
    const left = () => queue.after('noc', 0, 100)
    const said: string[] = []
    let loaded = loadedOf(endings)
    const watch = new LapseWatch({
      inForce: () => ({ loaded }),
      store: new LapseStore(database),
      leads: LEADS,
      now: () => clock.now,
      inTransaction: (work) =>
        inTransaction(database, () => {
          work()
          if (clock.fail) throw new Error('disk full')
        }),
      leaveMessages: (lapse, now) =>
        queue.leave({
          channel: 'noc',
          key: lapseKey(lapse),
          time: now,
          body: JSON.stringify(lapseNews(lapse, 'g', now)),
        }),
      onAnnounced: ({ exemption, lead }) => said.push(`${exemption.name} ${lead / DAY}`),
      onUnwritable: ({ message }) => said.push(message),
    })
    const have = (next: EndingExemption[]) => {
      loaded = loadedOf(next)
    }
    return { watch, left, said, have }
  }
  const loadedOf = (endings: readonly EndingExemption[]) =>
    ({
      documents: endings.map(({ name, expires, sources, origin }) => ({
        document: {
          kind: 'exemption',
          name,
          sources,
          expires: new Date(expires).toISOString().replace('.000', ''),
        },
        source: { origin },
      })),
    }) as unknown as Loaded

  t.test('announced once, also across restarts; a changed end anew; a removed one not', async (t) => {
    const path = join(await folder(t), 'egress25.db')
    const clock = { now: NOW }
    let database = openDatabase(path)
    t.teardown(() => database.isOpen && database.close())
    const a = ending('a', NOW + 3 * DAY)
    let { watch, said, left, have } = open(database, clock, [a])
    watch.look()
    watch.look()
    t.same(said, ['a 7'])
    t.match(JSON.parse(left()[0]?.body ?? ''), {
      event: 'exemption-lapses',
      exemption: { name: 'a' },
    })
    database.close()

    clock.now += 5 * DAY
    database = openDatabase(path)
    ;({ watch, said, left, have } = open(database, clock, [a]))
    watch.look()
    t.same(said, ['a 0'], 'it ended while nobody looked; what came before its end is not told any more')
    t.equal(left().length, 2)
    have([ending('a', clock.now + DAY / 2)])
    watch.look()
    t.same(said, ['a 0', 'a 1'])
    have([])
    clock.now += DAY
    watch.look()
    t.same(said, ['a 0', 'a 1'])
    have([ending('a', clock.now + 30 * DAY)])
    watch.look()
    t.same(said, ['a 0', 'a 1'], 'prolonged')
    t.same([watch.ending(0), watch.ending(7 * DAY), watch.ending(31 * DAY)], [0, 0, 1])
  })

  t.test('of several announcements of an end the shortest lead is remembered', async (t) => {
    const database = openDatabase(join(await folder(t), 'egress25.db'))
    t.teardown(() => database.close())
    const clock = { now: NOW }
    const a = ending('a', NOW + 7 * DAY)
    const first = open(database, clock, [a])
    first.watch.look()
    clock.now += 6 * DAY
    first.watch.look()
    t.same(first.said, ['a 7', 'a 1'])
    const second = open(database, clock, [a])
    second.watch.look()
    t.same(second.said, [])
  })

  t.test('a database that cannot be written: said once, nothing half, and made up for later', async (t) => {
    const database = openDatabase(join(await folder(t), 'egress25.db'))
    t.teardown(() => database.close())
    const clock = { now: NOW, fail: true }
    const { watch, said, left } = open(database, clock, [ending('a', NOW + DAY)])
    watch.look()
    clock.now += 5_000
    watch.look()
    t.same(said, ['disk full', 'a 1'])
    t.equal(left().length, 0)
    t.equal(new LapseStore(database).announced().size, 0)
    clock.fail = false
    clock.now += 60_000
    watch.look()
    t.same(said, ['disk full', 'a 1'], 'it was in the log already')
    t.equal(left().length, 1)
  })

  t.test('what is long over and gone is forgotten, what is still there is not', async (t) => {
    const database = openDatabase(join(await folder(t), 'egress25.db'))
    t.teardown(() => database.close())
    const clock = { now: NOW }
    const [old, stays] = [ending('old', NOW - DAY), ending('stays', NOW - DAY)]
    const { watch, said, have } = open(database, clock, [old, stays])
    watch.look()
    have([stays])
    watch.prune(NOW - 2 * DAY)
    t.equal(new LapseStore(database).announced().size, 2)
    watch.prune(NOW)
    t.same([...new LapseStore(database).announced().keys()], [endKey(stays)])
    watch.look()
    t.equal(said.length, 2)
  })

  t.test('very many at once come in portions', async (t) => {
    const database = openDatabase(join(await folder(t), 'egress25.db'))
    t.teardown(() => database.close())
    const { watch, said } = open(
      database,
      { now: NOW },
      Array.from({ length: 1_200 }, (_, i) => ending(`e${i}`, NOW - DAY)),
    )
    for (const expected of [500, 1_000, 1_200, 1_200]) {
      watch.look()
      t.equal(said.length, expected)
    }
  })

  t.test('a database of the release before gets its place for them, and keeps the rest', async (t) => {
    const path = join(await folder(t), 'egress25.db')
    const before = new DatabaseSync(path)
    before.exec(`
      CREATE TABLE incidents (id TEXT PRIMARY KEY, state TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
        last_seen INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
      CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, key TEXT NOT NULL,
        body TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, next_try INTEGER NOT NULL DEFAULT 0) STRICT;
      INSERT INTO outbox (channel, key, body)
        VALUES ('noc', 'key', '{"event":"opened","time":"2026-06-01T00:00:00.000Z"}');
      PRAGMA user_version = 1`)
    before.close()
    const database = openDatabase(path)
    t.teardown(() => database.close())
    t.equal(new LapseStore(database).announced().size, 0)
    const [left] = new AlertQueue(database).after('noc', 0, 10)
    t.match(left, { key: 'key', time: NOW })
    t.match(JSON.parse(left?.body ?? ''), {
      event: 'opened',
      severity: 'warning',
      occurrence: 1,
      network: null,
    })
  })

  t.test('the configuration', async (t) => {
    const leads = (text: string) => parseConfig('c.yaml', text).exemptions.announce.map((lead) => lead.text)
    t.same(leads('gateway: g\n'), ['7d', '1d'])
    t.same(leads('exemptions: { announce: [1h, 30d, 60m] }\n'), ['30d', '60m'])
    t.same(leads('exemptions: { announce: [] }\n'), [])
    t.throws(() => leads('exemptions: { announce: [soon] }\n'), /has mistakes/)
  })
})

const REDIRECTING = `kind: policy
name: diverted
networks: [100.64.0.0/10, "2001:db8:100::/40"]
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
addresses: [192.0.2.25, "2001:db8::25"]
clients: [10.0.0.0/8]
---
kind: relay
name: mx4
addresses: [192.0.2.44]
---
kind: exemption
name: free
sources: [100.64.12.0/30]
destinations: [203.0.113.0/24]
---
kind: exemption
name: slow
sources: [100.64.12.8]
rate: 2/day
---
kind: exemption
name: brief
sources: [100.64.12.9, "2001:db8:100::9"]
expires: 2026-06-01T00:00:10Z
`

t.test('where a ruleset redirects to is what the reference says', async (t) => {
  const { model } = await load(REDIRECTING)
  const ruleset = compile(model, DEFAULT_COMPILE_OPTIONS)
  const redirection = redirectionOf(ruleset)
  const sources = [
    ...[
      '100.64.0.0',
      '100.64.5.0',
      '100.64.5.255',
      '100.64.12.1',
      '100.64.12.4',
      '100.64.12.8',
      '100.64.12.9',
    ],
    ...['100.80.1.1', '100.81.1.1', '100.127.255.255', '100.128.0.0', '10.1.1.1', '192.0.2.25', '192.0.2.44'],
    ...['2001:db8:100::1', '2001:db8:100::9', '2001:db8:180::1', '2001:db8:1ff:ffff::1', '2001:db8:200::'],
  ]
  const destinations = [
    '203.0.113.9',
    '198.51.100.1',
    '192.0.2.25',
    '192.0.2.44',
    '2001:db8::25',
    '2001:db8:f::9',
  ]
  fc.assert(
    fc.property(
      fc.constantFrom(...sources),
      fc.constantFrom(...destinations),
      fc.constantFrom(0, 9_999, 10_000, 20_000),
      (from, to, later) => {
        const [source, destination] = [address(from), address(to)]
        if (source.family !== destination.family) return
        const decision = decide(model, { source, destination, port: 25 }, NOW + later)
        const policy = decision.verdict === 'redirect' ? decision.document : null
        const expected = source.family === 4 ? policy?.redirect?.target4 : policy?.redirect?.target6
        const found = redirection?.target(source, destination, NOW + later) ?? null
        if ((expected ?? null)?.address !== found?.address)
          throw new Error(
            `${from} ${to}: ${expected && formatPrefix(expected)} ${found && formatPrefix(found)}`,
          )
        if (isGoverned(ruleset, source) !== (governingPolicy(model, source) !== null))
          throw new Error(`${from} governed?`)
      },
    ),
    { numRuns: 1_000 },
  )
  const { model: plain } = await load('kind: policy\nname: p\nnetworks: [100.64.0.0/10]\n')
  t.equal(redirectionOf(compile(plain, DEFAULT_COMPILE_OPTIONS)), null)
  const local = redirectionOf(compile(model, { ...DEFAULT_COMPILE_OPTIONS, hooks: ['output'] }))
  t.ok(local?.target(address('100.64.1.1'), address('203.0.113.9'), NOW))
})

t.test('conntrack', async (t) => {
  const rulesetOf = async (text: string) => compile((await load(text)).model, DEFAULT_COMPILE_OPTIONS)
  const redirecting = await rulesetOf(REDIRECTING)
  const moved = await rulesetOf(REDIRECTING.replaceAll('192.0.2.25', '192.0.2.26'))
  const plain = await rulesetOf('kind: policy\nname: p\nnetworks: [100.64.0.0/10]\n')
  const entry = (source: string, sport: number, target = '192.0.2.25', more = '') =>
    `ipv4     2 tcp      6 431999 ESTABLISHED src=${source} dst=203.0.113.9 sport=${sport} dport=25 packets=3 bytes=164 src=${target} dst=${source} sport=25 dport=${sport} packets=2 bytes=112 [ASSURED] mark=0 ${more}use=1\n`
  const run = async (
    before: Ruleset | null,
    after: Ruleset,
    answers: Record<string, string | ProcessError>,
  ) => {
    const started: string[] = []
    const told: string[] = []
    const conntrack = openConntrack({
      run: programs(answers, started),
      now: () => NOW,
      onEnded: (connections) => told.push(`ended ${connections}`),
      onFailed: (reason) => told.push(reason),
    })
    await conntrack.endStale(before, after)
    return { started, told }
  }
  const listed = (four: string) => ({
    'conntrack -L -f ipv4': four,
    'conntrack -L -f ipv6': '',
    'conntrack -R': '',
  })

  t.test('nothing is started where nothing redirects', async (t) => {
    t.same((await run(plain, plain, {})).started, [])
  })

  t.test(
    'the same target lives on; another ends, by its whole tuple; what others diverted is theirs',
    async (t) => {
      const four =
        entry('100.64.1.2', 1001) +
        entry('100.80.1.2', 1002, '192.0.2.44') +
        entry('203.0.113.200', 1003) +
        entry('100.64.1.3', 1004, '198.51.100.9')
      t.same((await run(redirecting, redirecting, listed(four))).told, [])
      const { started, told } = await run(redirecting, moved, listed(four))
      t.same(told, ['ended 1'])
      t.match(
        started.at(-1),
        'conntrack -R < -D -f ipv4 -p tcp -s 100.64.1.2 -d 203.0.113.9 --sport 1001 --dport 25 ' +
          '-r 192.0.2.25 -q 100.64.1.2 --reply-port-src 25 --reply-port-dst 1001\n',
      )
    },
  )

  t.test('where nothing goes to a target any more, one command ends all of it', async (t) => {
    const { started } = await run(redirecting, moved, listed(entry('100.64.1.2', 1) + entry('100.64.1.3', 2)))
    t.match(started.at(-1), /< -D -p tcp --orig-port-dst 25 --dst-nat 192\.0\.2\.25\n$/)
  })

  t.test(
    'where the target stays in use each is ended by itself: others may be on their way to it',
    async (t) => {
      const exempt = await rulesetOf(`${REDIRECTING}---\nkind: exemption\nname: new\nsources: [100.64.1.2]\n`)
      const { started, told } = await run(redirecting, exempt, listed(entry('100.64.1.2', 1)))
      t.same(told, ['ended 1'])
      t.match(started.at(-1), '< -D -f ipv4 -p tcp -s 100.64.1.2 ')
    },
  )

  t.test('entries in zones are named with theirs', async (t) => {
    const { started } = await run(
      redirecting,
      plain,
      listed(entry('100.64.1.2', 1, '192.0.2.25', 'zone=7 ') + entry('9.9.9.9', 1)),
    )
    t.match(started.at(-1), /-D -f ipv4 -w 7 -p tcp -s 100\.64\.1\.2 /)
  })

  t.test('what was before is not known: governed hosts by the new rules', async (t) => {
    const four = entry('100.64.1.2', 1) + entry('203.0.113.200', 2) + entry('100.64.5.9', 3)
    const { started, told } = await run(null, redirecting, listed(four))
    t.same(told, ['ended 1'])
    t.match(started.at(-1), /-s 100\.64\.5\.9 /)
  })

  t.test('failures are told, and no more', async (t) => {
    t.match((await run(redirecting, plain, {})).told, ['conntrack is not installed'])
    t.match((await run(redirecting, plain, { 'conntrack -L': 'fail:no' })).told, [/status 1: no/])
    const { told } = await run(redirecting, plain, {
      ...listed(entry('100.64.1.2', 1)),
      'conntrack -R': 'fail:no',
    })
    t.match(told, [/status 1: no/])
    t.same((await run(redirecting, plain, listed('some\nother=1 text dport=25\n'))).told, [])
  })

  t.test('very many: bounded, and said so', async (t) => {
    const four = Array.from({ length: 100_001 }, (_, i) => entry('100.64.1.2', i)).join('')
    const { told } = await run(redirecting, plain, listed(four))
    t.same(told, ['only 100000 of 100001 redirected connections were looked at', 'ended 100000'])
  })
})

t.test('the lock', async (t) => {
  const LOCK = new URL('../../src/kernel/lock.ts', import.meta.url).pathname
  /** Another process that holds the lock until it is killed. */
  const hold = (test: Test, path: string): Promise<ChildProcess> => {
    const script = `import { withLock } from ${JSON.stringify(LOCK)}
      await withLock(${JSON.stringify(path)}, () => new Promise(() => { console.log('held'); setInterval(() => {}, 1e6) }))`
    const child = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    test.teardown(() => child.kill('SIGKILL'))
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', () => reject(new Error('it has ended')))
      child.stdout?.once('data', () => resolve(child))
    })
  }

  t.test('one after the other within a process, also when the work fails', async (t) => {
    const path = join(await folder(t), 'state/apply.lock')
    let inside = 0
    let most = 0
    const work = async (index: number) => {
      most = Math.max(most, ++inside)
      await new Promise((resolve) => setTimeout(resolve, 5))
      inside--
      if (index % 2 === 0) throw new Error('on purpose')
      return index
    }
    const results = await Promise.allSettled(
      Array.from({ length: 6 }, (_, index) => withLock(path, () => work(index))),
    )
    t.equal(most, 1)
    t.same(
      results.map((result) => (result.status === 'fulfilled' ? result.value : result.reason.message)),
      ['on purpose', 1, 'on purpose', 3, 'on purpose', 5],
    )
  })

  t.test('another process has it: named, after some patience; killed, it is free at once', async (t) => {
    const path = join(await folder(t), 'apply.lock')
    const other = await hold(t, path)
    const started = performance.now()
    const error = await withLock(path, async () => 'done', 200).catch((error: Error) => error)
    t.ok(error instanceof LockedError)
    t.match((error as Error).message, new RegExp(`process ${other.pid}\\b.*nothing was changed`))
    t.ok(performance.now() - started >= 200)
    const waiting = withLock(path, async () => 'done', 60_000)
    other.kill('SIGKILL')
    t.equal(await waiting, 'done', 'whoever waits gets it')
    t.equal((await stat(path)).size, 0, 'nothing is ever written')
  })

  t.test('where there can be no lock the work is done all the same', async (t) => {
    const root = await folder(t, { file: '' })
    t.equal(await withLock(join(root, 'file/apply.lock'), async () => 'done'), 'done')
    await mkdir(join(root, 'apply.lock'))
    t.equal(await withLock(join(root, 'apply.lock'), async () => 'done'), 'done')
    await writeFile(join(root, 'text.lock'), 'not a database, and not empty either. '.repeat(100))
    t.equal(await withLock(join(root, 'text.lock'), async () => 'done'), 'done')
  })
})

/**
 * What a gateway looks after besides its rules, with real bridges, tables of others, connections and processes: what
 * makes the rules useless, redirected connections after a change, exemptions that end, and one change at a time.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { type Delivery, openHttp } from '../../scripts/lab/http.ts'
import { type Lab, openLab } from '../../scripts/lab/lab.ts'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { openConntrack } from '../../src/kernel/conntrack.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { withLock } from '../../src/kernel/lock.ts'
import { openNft } from '../../src/kernel/nft.ts'
import type { Finding, Situation } from '../../src/kernel/preflight.ts'
import { type ProcessRunner, runProcess } from '../../src/kernel/process.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { PATIENCE, until } from './gateway.ts'

if (process.getuid?.() !== 0) t.bailout('these tests make namespaces and need root: sudo scripts/test')

const ROOT = new URL('../..', import.meta.url).pathname
const COMMAND = join(ROOT, 'scripts/egress25')
const NODE = join(ROOT, 'node_modules/.bin/node')
const DAY = 86_400_000

async function folder(test: Test, files: Record<string, string> = {}): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'egress25-gateway-'))
  test.teardown(() => rm(path, { recursive: true, force: true, maxRetries: 9 }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true })
    await writeFile(join(path, name), text)
  }
  return path
}

async function lab(test: Test): Promise<Lab> {
  const made = await openLab()
  test.teardown(() => made.close())
  return made
}

/** Runs a program in the gateway; fails with what it said. */
async function must(lab: Lab, ...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.exec(lab.gateway, argv)
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  return stdout
}

/** One look by a process inside the gateway: /proc/sys and /sys show the namespace of whoever reads them. */
async function look(lab: Lab, situation: Partial<Situation> = {}): Promise<Finding[]> {
  const asked: Situation = {
    gateway: { hooks: ['forward', 'output'], outsideInterfaces: [], priority: -5 },
    families: [4, 6],
    redirects: true,
    elements: 10,
    ...situation,
  }
  const script = `
    import { machineFiles } from ${JSON.stringify(join(ROOT, 'src/kernel/machine-files.ts'))}
    import { Preflight } from ${JSON.stringify(join(ROOT, 'src/kernel/preflight.ts'))}
    import { runProcess } from ${JSON.stringify(join(ROOT, 'src/kernel/process.ts'))}
    const found = await new Preflight(machineFiles(), runProcess).look(${JSON.stringify(asked)})
    console.log(JSON.stringify(found))`
  const found = JSON.parse(await must(lab, NODE, '--no-warnings', '--input-type=module', '-e', script))
  // Whether this machine keeps time is not what is tested.
  return (found as Finding[]).filter(({ code }) => code !== 'clock-unsynchronised')
}

const codesOf = (found: readonly Finding[]) => found.map(({ code }) => code)

t.test('preflight', async (t) => {
  const g = await lab(t)
  const nft = (...lines: string[]) => must(g, 'nft', lines.join('\n'))
  const codes = async (situation: Partial<Situation> = {}) => codesOf(await look(g, situation))

  t.test('a lab is a healthy gateway', async (t) => {
    t.same(await look(g), [])
  })

  t.test('a machine that does not forward', async (t) => {
    for (const [family, setting] of [
      [4, 'net.ipv4.ip_forward'],
      [6, 'net.ipv6.conf.all.forwarding'],
    ] as const) {
      await must(g, 'sysctl', '-q', '-w', `${setting}=0`)
      t.match(await look(g), [{ code: 'forwarding-off', message: `IPv${family}` }])
      await must(g, 'sysctl', '-q', '-w', `${setting}=1`)
    }
    t.same(await look(g), [])
  })

  t.test('an outside interface that is not there', async (t) => {
    const outside = (...outsideInterfaces: string[]) => ({
      gateway: { hooks: ['forward'] as const, outsideInterfaces, priority: -5 },
    })
    t.same(await codes(outside('lo')), [])
    t.same(await codes(outside('lo', 'eht0')), ['outside-missing'])
  })

  t.test('tables of others, as nft and iptables write them', async (t) => {
    const chain = (hook: string) => `add table inet other; add chain inet other c { type ${hook}; }`
    for (const [expected, ...commands] of [
      [
        'other-table-drops',
        chain('filter hook forward priority -10'),
        'add rule inet other c tcp dport 25 drop',
      ],
      [
        'other-table-drops',
        chain('filter hook prerouting priority 0'),
        'add chain inet other d',
        'add rule inet other d ip saddr 100.64.0.0/10 counter reject',
        'add rule inet other c tcp dport { 25, 465 } jump d',
      ],
      [
        'other-table-diverts',
        chain('nat hook prerouting priority -110'),
        'add rule inet other c tcp dport 25 redirect to :2525',
      ],
      [
        'other-table-untracks',
        chain('filter hook prerouting priority -300'),
        'add rule inet other c notrack',
      ],
    ] as const) {
      await nft(...commands)
      t.same(await codes(), [expected], commands.at(-1) ?? '')
      await nft('delete table inet other')
    }
    for (const [expected, ...rule] of [
      ['other-table-drops', '-A', 'FORWARD', '-p', 'tcp', '--dport', '25', '-j', 'DROP'],
      [
        'other-table-drops',
        '-A',
        'FORWARD',
        '-p',
        'tcp',
        '-m',
        'multiport',
        '--dports',
        '25,465',
        '-j',
        'REJECT',
      ],
      [
        'other-table-diverts',
        '-t',
        'nat',
        '-A',
        'PREROUTING',
        '-p',
        'tcp',
        '--dport',
        '25',
        '-j',
        'REDIRECT',
        '--to-ports',
        '2525',
      ],
      [
        'other-table-untracks',
        '-t',
        'raw',
        '-A',
        'PREROUTING',
        '-p',
        'tcp',
        '--dport',
        '25',
        '-j',
        'CT',
        '--notrack',
      ],
    ] as const) {
      await must(g, 'iptables-nft', ...rule)
      t.same(await codes(), [expected], rule.join(' '))
      await nft('flush ruleset')
    }
    // What a port that is forwarded to a mail server looks like, and what is not about port 25.
    await must(
      g,
      'iptables-nft',
      '-t',
      'nat',
      '-A',
      'PREROUTING',
      '-m',
      'addrtype',
      '--dst-type',
      'LOCAL',
      '-p',
      'tcp',
      '--dport',
      '25',
      '-j',
      'DNAT',
      '--to-destination',
      '100.64.0.5',
    )
    await must(g, 'iptables-nft', '-A', 'FORWARD', '-p', 'tcp', '--dport', '465', '-j', 'DROP')
    t.same(await look(g), [])
    await nft('flush ruleset')
  })

  t.test('a bridge carries port 25 past the rules, until the kernel is told to show it', async (t) => {
    const { model } = await loadPolicies(import.meta.dirname, {
      now: Date.now(),
      overlay: new Map([['p.yaml', 'kind: policy\nname: p\nnetworks: [10.25.0.0/24]\n']]),
    })
    if (model === null) throw new Error('the policy is sound')
    await new Enforcer(openNft(inside(g)), null).apply(compile(model, DEFAULT_COMPILE_OPTIONS))
    // Two machines without a name, each in a namespace that goes with its process.
    const hosts: ChildProcess[] = []
    for (const index of [1, 2]) {
      const host = g.spawn(g.gateway, ['unshare', '-n', 'sleep', '600'], { stdio: 'ignore' })
      hosts.push(host)
      await until('a namespace of its own', async () => {
        const at = (pid: string | number | undefined) =>
          g.exec(g.gateway, ['readlink', `/proc/${pid}/ns/net`])
        const [there, here] = [await at(host.pid), await at('self')]
        return there.code === 0 && there.stdout !== here.stdout
      })
      await must(
        g,
        'ip',
        'link',
        'add',
        `port${index}`,
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        String(host.pid),
      )
    }
    await must(g, 'ip', 'link', 'add', 'br25', 'type', 'bridge')
    for (const port of ['port1', 'port2']) await must(g, 'ip', 'link', 'set', port, 'master', 'br25', 'up')
    await must(g, 'ip', 'link', 'set', 'br25', 'up')
    const at = (index: number, ...argv: string[]) => [
      'nsenter',
      '-t',
      String(hosts[index]?.pid),
      '-n',
      ...argv,
    ]
    for (const index of [0, 1]) {
      await must(g, ...at(index, 'ip', 'addr', 'add', `10.25.0.${index + 1}/24`, 'dev', 'eth0'))
      await must(g, ...at(index, 'ip', 'link', 'set', 'eth0', 'up'))
    }
    const listener = g.spawn(
      g.gateway,
      at(
        1,
        NODE,
        '-e',
        "require('net').createServer((s) => s.end()).listen(25, () => console.log('listening'))",
      ),
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
    if (listener.stdout !== null) await once(listener.stdout, 'data')
    const connect = async () =>
      (
        await must(
          g,
          ...at(
            0,
            NODE,
            '-e',
            "require('net').connect(25, '10.25.0.2').on('connect', () => { console.log('connected'); process.exit() }).on('error', (e) => console.log(e.code))",
          ),
        )
      ).trim()
    const nfCall = (value: 0 | 1) =>
      must(
        g,
        'sysctl',
        '-q',
        '-w',
        `net.bridge.bridge-nf-call-iptables=${value}`,
        `net.bridge.bridge-nf-call-ip6tables=${value}`,
      )
    const throughBridge: Partial<Situation> = {
      gateway: { hooks: ['forward'], outsideInterfaces: ['port2'], priority: -5 },
    }

    await nfCall(0)
    t.equal(await connect(), 'connected', 'a governed host gets out')
    const [finding, ...more] = await look(g, throughBridge)
    t.match(finding, { code: 'bridge-bypasses', message: /br25 .*port1, port2/ })
    t.same(more, [])
    t.same(await look(g), [], 'where the way out is another interface it is a bridge of the inside')
    await nfCall(1)
    t.same(await look(g, throughBridge), [])
    t.equal(await connect(), 'ECONNREFUSED', 'what the warning says helps')
  })
})

const inside =
  (lab: Lab): ProcessRunner =>
  (argv, options) =>
    runProcess(['ip', 'netns', 'exec', lab.gateway, ...argv], options)

t.test('redirected connections after a change', async (t) => {
  const g = await lab(t)
  const told: string[] = []
  const newEnforcer = () =>
    new Enforcer(openNft(inside(g)), null, {
      conntrack: openConntrack({
        run: inside(g),
        now: Date.now,
        onEnded: (connections) => told.push(`ended ${connections}`),
        onFailed: (reason) => told.push(reason),
      }),
    })
  const policies = ({ south = 'redirect', relay = '192.0.2.25', more = '' }) => `kind: policy
name: north
networks: [100.64.0.0/16, "2001:db8:100::/48"]
action: redirect
redirect_to: mx
---
kind: policy
name: south
networks: [100.65.0.0/16]
action: ${south}
${south === 'redirect' ? 'redirect_to: mx' : ''}
---
kind: relay
name: mx
addresses: [${relay}, "2001:db8::25"]
${more}`
  const rulesetOf = async (text: string) => {
    const { model, diagnostics } = await loadPolicies(import.meta.dirname, {
      now: Date.now(),
      overlay: new Map([['p.yaml', text]]),
    })
    if (model === null) throw new Error(JSON.stringify(diagnostics))
    return compile(model, DEFAULT_COMPILE_OPTIONS)
  }
  const enforcer = newEnforcer()
  await enforcer.apply(await rulesetOf(policies({})))
  const client = await g.client()
  const [internet, relays] = [await g.probe(g.internet), await g.probe(g.relays)]
  for (const side of [internet, relays]) await side.listen([25], { echo: true })
  // Somebody else forwards mail that comes in to the same relay.
  await must(
    g,
    'nft',
    `add table ip other; add chain ip other c { type nat hook prerouting priority -110; }
     add rule ip other c ip daddr 100.100.0.1 tcp dport 25 dnat to 192.0.2.25`,
  )
  const hold = (from: string, to = '203.0.113.9') => client.hold({ from, to, port: 25 })
  const held = {
    north: await hold('100.64.1.2'),
    north6: await hold('2001:db8:100::2', '2001:db8:ffff::9'),
    soonExempt: await hold('100.64.3.3'),
    partlyExempt: await hold('100.64.3.3', '198.51.100.9'),
    south: await hold('100.65.1.2'),
  }
  const incoming = await internet.hold({ from: '203.0.113.200', to: '100.100.0.1', port: 25 })
  const alive = async (...names: (keyof typeof held)[]) => {
    for (const name of names) t.equal(await client.send(held[name]), 'ok', `${name} lives on`)
    t.equal(await internet.send(incoming), 'ok', 'so does mail that comes in')
  }
  await alive('north', 'north6', 'soonExempt', 'partlyExempt', 'south')
  t.same(told, [])

  t.test('a policy rejects now: its connections end, others live on', async () => {
    await enforcer.apply(await rulesetOf(policies({ south: 'reject' })))
    t.same(told.splice(0), ['ended 1'])
    t.equal(await client.send(held.south), 'reset')
    await alive('north', 'north6', 'soonExempt', 'partlyExempt')
  })

  const exemption = `---
kind: exemption
name: e
sources: [100.64.3.3]
destinations: [203.0.113.0/24]
`
  t.test('a host becomes exempt for some destinations: only these connections end', async () => {
    await enforcer.apply(await rulesetOf(policies({ south: 'reject', more: exemption })))
    t.same(told.splice(0), ['ended 1'])
    t.equal(await client.send(held.soonExempt), 'reset')
    await alive('north', 'north6', 'partlyExempt')
    await relays.accepted()
    t.equal(await client.connect({ from: '100.64.3.3', to: '203.0.113.9', port: 25 }), 'connected')
    t.same(await relays.accepted(), [], 'its next connection goes where it wants')
  })

  t.test('an exemption is revoked: what it had ends by the rules, redirected ones live on', async () => {
    const direct = await hold('100.64.3.3')
    await enforcer.apply(await rulesetOf(policies({ south: 'reject' })))
    t.equal(await client.send(direct), 'reset')
    t.same(told.splice(0), [])
    await alive('north', 'north6', 'partlyExempt')
  })

  t.test('another relay: only the family that moved', async () => {
    await enforcer.apply(await rulesetOf(policies({ south: 'reject', relay: '192.0.2.26' })))
    t.same(told.splice(0), ['ended 2'])
    t.equal(await client.send(held.north), 'reset')
    t.equal(await client.send(held.partlyExempt), 'reset')
    await alive('north6')
  })

  t.test('another process, which does not know what was before', async () => {
    const fresh = await hold('100.64.1.3')
    const other = newEnforcer()
    await other.apply(
      await rulesetOf('kind: policy\nname: north\nnetworks: [100.64.0.0/16, "2001:db8:100::/48"]\n'),
    )
    t.same(told.splice(0), ['ended 2'])
    t.equal(await client.send(fresh), 'reset')
    t.equal(await client.send(held.north6), 'reset')
    await alive()
  })

  t.test('where nothing redirects any more no conntrack is started', async () => {
    let started = 0
    const counting: ProcessRunner = (argv, options) => {
      if (argv[0] === 'conntrack') started++
      return inside(g)(argv, options)
    }
    const conntrack = openConntrack({ run: counting, now: Date.now, onEnded: () => {}, onFailed: () => {} })
    const plain = new Enforcer(openNft(inside(g)), null, { conntrack })
    const text = 'kind: policy\nname: north\nnetworks: [100.64.0.0/16, "2001:db8:100::/48"]\n'
    t.equal((await plain.apply(await rulesetOf(text))).how, 'unchanged')
    t.equal((await plain.apply(await rulesetOf(`${text}action: drop\n`))).how, 'delta')
    t.equal(started, 0)
  })
})

t.test('the service', async (t) => {
  const g = await lab(t)
  const API = 'http://127.0.0.1:7025'
  const time = (milliseconds: number) => `${new Date(milliseconds).toISOString().slice(0, 19)}Z`
  const started = Date.now()
  const ends = started + DAY / 2
  const directory = await folder(t, {
    secret: 'sesame\n',
    'policies/p.yaml': `kind: policy
name: residential
networks: [100.64.0.0/10, "2001:db8:100::/40"]
action: redirect
redirect_to: mx
---
kind: relay
name: mx
addresses: [192.0.2.25]
---
kind: exemption
name: acme
sources: [100.64.12.7]
expires: ${time(ends)}
owner: noc@example.net
ticket: NOC-4711
---
kind: exemption
name: over
sources: [100.64.12.8]
expires: ${time(started - DAY)}
---
kind: exemption
name: later
sources: [100.64.12.9]
expires: ${time(started + 30 * DAY)}
`,
  })
  const config = join(directory, 'egress25.yaml')
  await writeFile(
    config,
    JSON.stringify({
      gateway: 'gw-test',
      policies: { directory: join(directory, 'policies') },
      state: { directory: join(directory, 'state') },
      alerts: [
        {
          name: 'hook',
          type: 'webhook',
          about: ['exemption'],
          url: 'http://127.0.0.1:7026/',
          secret_file: join(directory, 'secret'),
        },
      ],
    }),
  )
  const http = openHttp(g, g.gateway)
  const deliveries: Delivery[] = []
  await http.receive(7026, 'sesame', (delivery) => deliveries.push(delivery))
  const logFile = join(directory, 'log')
  const start = async () => {
    const { openSync, closeSync } = await import('node:fs')
    const output = openSync(logFile, 'a')
    const service = g.spawn(g.gateway, [COMMAND, '-c', config, 'serve'], {
      stdio: ['ignore', output, output],
    })
    closeSync(output)
    await http.untilOk(`${API}/readyz`, PATIENCE)
    return service
  }
  const stop = async (service: ChildProcess) => {
    const ended = once(service, 'exit')
    service.kill('SIGTERM')
    t.equal((await ended)[0], 0)
  }
  const status = async () =>
    JSON.parse((await http.ask('GET', `${API}/v1/status`)).text) as { preflight: Finding[] }
  const command = (...args: string[]) =>
    g.exec(g.gateway, [COMMAND, '-c', config, ...args], { timeoutMs: 60_000 })

  // It takes ten seconds to give up, so it starts now, beside a lock that is not the service's.
  const elsewhere = join(directory, 'elsewhere.yaml')
  await writeFile(
    elsewhere,
    JSON.stringify({
      policies: { directory: join(directory, 'policies') },
      api: { listen: [`unix:${directory}/nobody.sock`] },
      state: { directory: join(directory, 'elsewhere') },
    }),
  )
  const impatient = withLock(join(directory, 'elsewhere/apply.lock'), () =>
    g.exec(g.gateway, [COMMAND, '-c', elsewhere, 'apply'], { timeoutMs: 60_000 }),
  )

  await must(g, 'sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=0')
  await must(g, 'nft', 'add table ip other; add chain ip other c { type filter hook forward priority -10; }')
  await must(g, 'nft', 'add rule ip other c tcp dport 25 ip daddr != 192.0.2.25 drop')
  let service = await start()
  const warned = (found: Finding[]) =>
    codesOf(found)
      .filter((code) => code !== 'clock-unsynchronised')
      .sort()

  t.test(
    'says in its status, to the command, in metrics and in the log what makes its rules useless',
    async (t) => {
      const { preflight } = await until('the first look', async () => {
        const found = await status()
        return found.preflight.length >= 2 && found
      })
      t.same(warned(preflight), ['forwarding-off', 'other-table-drops'])
      const { code, stdout } = await command('status')
      t.equal(code, 0)
      t.match(stdout, /^WARNING {4}forwarding-off: .*IPv6/m)
      t.match(stdout, /^WARNING {4}other-table-drops: table ip other, chain c has /m)
      const metrics = (await http.ask('GET', `${API}/metrics`)).text
      t.match(metrics, /^egress25_preflight_warnings\{code="forwarding-off"\} 1$/m)
      t.match(metrics, /^egress25_preflight_warnings\{code="flowtable"\} 0$/m)
      t.match(metrics, /^egress25_exemptions_ending\{within="1d"\} 1$/m)
      t.match(metrics, /^egress25_exemptions_ending\{within="7d"\} 1$/m)
      t.match(metrics, /^egress25_exemptions_ended 1$/m)
      t.match(
        await readFile(logFile, 'utf8'),
        /"level":40.*"code":"other-table-drops".*"msg":"preflight warning"/,
      )
    },
  )

  t.test('announces ends of exemptions, in the log and to every channel', async (t) => {
    await until('both messages', async () => deliveries.length >= 2)
    const bodies = deliveries.map(({ body }) => JSON.parse(body))
    t.match(
      bodies.sort((a, b) => (a.event < b.event ? -1 : 1)),
      [
        { event: 'exemption-lapsed', gateway: 'gw-test', exemption: { name: 'over', owner: null } },
        {
          event: 'exemption-lapses',
          gateway: 'gw-test',
          exemption: {
            name: 'acme',
            expires: time(ends).replace('Z', '.000Z'),
            owner: 'noc@example.net',
            ticket: 'NOC-4711',
            sources: ['100.64.12.7'],
          },
        },
      ],
    )
    const log = await readFile(logFile, 'utf8')
    t.match(
      log,
      /"level":40.*"name":"acme","file":"p\.yaml","line":11,"owner":"noc@example\.net","ticket":"NOC-4711".*"msg":"an exemption ends soon"/,
    )
    t.match(log, /"name":"over".*"msg":"an exemption has ended"/)
  })

  t.test('once: not again after a restart; anew with another end', async (t) => {
    await stop(service)
    service = await start()
    const put = await http.ask('GET', `${API}/v1/exemptions/acme`)
    const { status: code } = await http.ask('PUT', `${API}/v1/exemptions/acme`, {
      headers: { 'if-match': put.headers['etag'] ?? '' },
      body: { sources: ['100.64.12.7'], expires: time(ends + 3_600_000) },
    })
    t.equal(code, 200)
    await until('the news', async () => deliveries.length >= 3)
    t.same(
      deliveries.slice(2).map(({ body }) => JSON.parse(body).exemption),
      [
        {
          name: 'acme',
          expires: time(ends + 3_600_000).replace('Z', '.000Z'),
          owner: null,
          ticket: null,
          reason: null,
          sources: ['100.64.12.7'],
        },
      ],
    )
    t.equal((await readFile(logFile, 'utf8')).match(/an exemption has ended/g)?.length, 1)
  })

  t.test('ends redirected connections of a host that becomes exempt', async (t) => {
    await must(g, 'nft', 'delete table ip other')
    for (const side of [g.internet, g.relays]) await (await g.probe(side)).listen([25], { echo: true })
    const client = await g.client()
    const [one, other] = [
      await client.hold({ from: '100.64.1.2', to: '203.0.113.9', port: 25 }),
      await client.hold({ from: '100.64.1.3', to: '203.0.113.9', port: 25 }),
    ]
    const put = await http.ask('PUT', `${API}/v1/exemptions/fresh`, {
      headers: { 'if-none-match': '*' },
      body: { sources: ['100.64.1.2'] },
    })
    t.equal(put.status, 201)
    t.equal(await client.send(one), 'reset')
    t.equal(await client.send(other), 'ok')
    t.match(await readFile(logFile, 'utf8'), /"connections":1,.*"msg":"redirected connections were ended"/)
  })

  t.test(
    'its changes and those of a command wait for each other, and for as long as is bearable',
    async (t) => {
      await stop(service)
      const lock = join(directory, 'state/apply.lock')
      const applied = withLock(lock, async () => {
        // Not yet: somebody is at it.
        const early = command('apply')
        const late = await Promise.race([
          early,
          new Promise((resolve) => setTimeout(resolve, 1_000, 'waits')),
        ])
        t.equal(late, 'waits')
        return { early }
      })
      t.match(await (await applied).early, { code: 0 })
      const refused = await impatient
      t.equal(refused.code, 3)
      t.match(refused.stderr, new RegExp(`process ${process.pid}\\b.*nothing was changed`))
      t.equal(refused.stderr.trim().split('\n').length, 1)
    },
  )
})

t.test('the lock is for whoever may use the folder, whoever came first', async (t) => {
  const state = join(await folder(t), 'state')
  await mkdir(state)
  await chown(state, 64_025, 64_026)
  const path = join(state, 'apply.lock')
  await withLock(path, async () => {})
  const { uid, gid, mode } = await stat(path)
  t.same([uid, gid, mode & 0o777], [64_025, 64_026, 0o660])
})

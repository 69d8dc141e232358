/**
 * Imported rules, judged by packets: real nft and iptables rules in a gateway, real connections from the edges of
 * their prefixes; then what was imported in their place, and the same connections again. Needs root.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { joinSpaces, parseCallerPrefixes } from '../../src/import/conditions.ts'
import { type Imported, importText } from '../../src/import/import.ts'
import type { Remark } from '../../src/import/remark.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { runProcess } from '../../src/kernel/process.ts'
import { findUserIds } from '../../src/kernel/users.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { parseAddress } from '../../src/policy/prefix.ts'
import { openField } from '../golden/field.ts'

const FIXTURES = new URL('../import/', import.meta.url).pathname
const HOST = '198.51.100.254'
const space = (text: string) => joinSpaces([parseCallerPrefixes(text)!])

const empty = await mkdtemp(join(tmpdir(), 'egress25-import-system-'))
t.teardown(() => rm(empty, { recursive: true, force: true, maxRetries: 9 }))
const field = await openField()
t.teardown(() => field.close())

interface Case {
  readonly name: string
  readonly file: string
  /** Where connections start; `user@address` on the gateway itself. */
  readonly from: readonly string[]
  readonly to: readonly string[]
  readonly behind?: string
  readonly local?: string
}

const CASES: readonly Case[] = [
  {
    name: 'firewalld',
    file: 'firewalld.nft',
    behind: '100.64.0.0/10,10.0.0.0/8,2001:db8:100::/40',
    from: [
      ...['100.64.12.6', '100.64.12.7', '100.64.12.15', '100.64.12.16', '100.64.12.31', '100.64.12.32'],
      ...['10.20.0.9', '10.20.0.10', '10.20.0.13', '10.20.0.14', '192.0.2.25', '203.0.113.7', HOST],
      ...['2001:db8:100::1', '2001:db8::25'],
    ],
    to: ['203.0.113.25', '203.0.113.26', '192.0.2.25', '100.64.1.1', '2001:db8:f::1', '2001:db8:100::2'],
  },
  {
    name: 'a hand-written nft.conf',
    file: 'listing.nft',
    from: [
      ...['100.64.0.0', '100.64.1.5', '100.64.200.0', '100.64.200.255', '100.64.201.0', '100.64.202.0'],
      ...['100.65.0.0', '100.65.2.255', '100.65.3.0', '100.65.4.0', '100.65.63.255', '100.65.64.0'],
      ...['10.0.255.255', '10.1.0.0', '10.2.0.5', '10.2.0.6', '10.3.255.255', '10.4.0.0', '192.0.2.1'],
      ...['2001:db8:100::1', '2001:db8:200::1', '2001:db8::25'],
    ],
    to: [
      ...['203.0.113.0', '203.0.113.127', '203.0.113.128', '198.18.0.1', '198.18.0.2', '192.0.2.25'],
      ...['2001:db8::25', '2001:db8::27', '2001:db8:f::1'],
    ],
  },
  {
    name: 'shorewall',
    file: 'shorewall.rules',
    behind: '100.64.0.0/10,10.0.0.0/8',
    from: [
      ...[
        '10.0.255.255',
        '10.1.0.0',
        '10.1.255.255',
        '10.2.0.0',
        '100.64.12.7',
        '100.64.12.8',
        '100.64.20.0',
      ],
      ...[
        '100.64.20.1',
        '100.64.20.6',
        '100.64.20.7',
        '100.64.99.0',
        '100.64.100.0',
        '192.0.2.25',
        '203.0.113.9',
      ],
    ],
    to: ['203.0.113.1', '203.0.114.0', '198.18.0.24', '198.18.0.25', '192.0.2.25', '100.64.1.1'],
  },
  {
    name: 'Proxmox with ipsets',
    file: 'proxmox.rules',
    from: [
      '100.64.7.255',
      '100.64.8.0',
      '100.64.8.255',
      '100.64.9.0',
      '100.64.12.6',
      '100.64.12.7',
      '10.1.1.1',
      HOST,
    ],
    to: ['203.0.113.9', '192.0.2.24', '192.0.2.25'],
  },
  {
    name: 'a gateway with nat, IPv4 and IPv6',
    file: 'gateway.rules',
    from: [
      ...['10.8.255.255', '10.9.0.0', '10.9.255.255', '10.1.1.255', '10.1.2.0', '10.1.2.255', '10.1.3.0'],
      ...['10.7.0.0', '10.7.0.1', '10.7.0.2', '10.7.0.3', '192.0.2.25', '192.0.2.26', '100.64.1.1'],
      ...['2001:db8:100::1', '2001:db8:200::1', '2001:db8::1'],
    ],
    to: [
      '203.0.112.255',
      '203.0.113.0',
      '203.0.113.255',
      '192.0.2.25',
      '192.0.2.26',
      '2001:db8:f::1',
      '2001:db8::25',
    ],
  },
  {
    name: 'ufw on a host',
    file: 'ufw.rules',
    from: [HOST, `daemon@${HOST}`, `nobody@${HOST}`, '100.64.1.1'],
    to: ['203.0.113.24', '203.0.113.25', '192.0.2.25'],
  },
  {
    name: 'a gateway that also guards itself',
    file: 'both.rules',
    local: HOST,
    from: [
      HOST,
      `daemon@${HOST}`,
      `nobody@${HOST}`,
      '10.0.0.0',
      '10.1.0.5',
      '10.255.255.255',
      '100.64.1.1',
      '203.0.113.9',
    ],
    to: ['203.0.113.25', '203.0.113.26', '192.0.2.25', '10.3.3.3'],
  },
]

for (const one of CASES) {
  t.test(one.name, async (t) => {
    const family = (text: string) => (text.includes(':') ? 6 : 4)
    const pairs = one.from.flatMap((from) =>
      one.to.flatMap((to) => (family(from) === family(to) && from !== to ? [{ from, to }] : [])),
    )
    await clear()
    t.teardown(clear)
    const text = await loadOriginal(one.file)
    const before = await connectAll(pairs)
    const blocked = before.filter((line) => /: (reset|timeout)$/.test(line)).length
    t.ok(blocked > 0 && blocked < pairs.length, `${blocked} of ${pairs.length} are blocked by the old rules`)

    const imported = await importText(text, {
      format: null,
      as: 'either',
      local: one.local === undefined ? null : space(one.local),
      behind: new Map(one.behind === undefined ? [] : [['inside0', space(one.behind)]]),
      userName: (uid) => (uid === 1 ? 'daemon' : null),
      now: Date.now(),
    })
    t.equal(imported.compared.differences, 0)
    await clear()
    await enforce(imported)
    t.strictSame(await connectAll(pairs), before, 'and the same by what was imported')
  })
}

/** One line for each connection: what became of it, and where it arrived. */
async function connectAll(pairs: readonly { from: string; to: string }[]): Promise<string[]> {
  await field.accepted(0)
  const outcomes = await Promise.all(
    pairs.map(async ({ from, to }) => {
      const [address = '', user = null] = from.split('@').reverse()
      const probe = await field.probe(parseAddress(address)!, user)
      const outcome = await probe.connect({ from: address, to, port: 25 })
      return outcome === 'unreachable' ? 'reset' : outcome
    }),
  )
  const arrivals = await field.accepted(outcomes.filter((outcome) => outcome === 'connected').length)
  return [...pairs.map(({ from, to }, index) => `${from} to ${to}: ${outcomes[index]}`), ...arrivals]
}

async function loadOriginal(file: string): Promise<string> {
  if (file.endsWith('.nft')) {
    await gateway(['nft', '-f', join(FIXTURES, file)])
    return gateway(['nft', '-j', 'list', 'ruleset'])
  }
  const text = await readFile(join(FIXTURES, file), 'utf8')
  const sets = text.split('\n').filter((line) => /^(create|add) /.test(line))
  const [four = '', six] = text.replace(/^(create|add) .*\n/gm, '').split(/(?=^# Generated by ip6tables)/m)
  if (sets.length > 0) await gateway(['ipset', 'restore'], `${sets.join('\n')}\n`)
  await gateway(['iptables-restore'], four)
  if (six !== undefined) await gateway(['ip6tables-restore'], six)
  const saved = [await gateway(['iptables-save']), await gateway(['ip6tables-save'])]
  return [...saved, sets.length > 0 ? await gateway(['ipset', 'save']) : ''].join('\n')
}

/** What the remarks say about the gateway's configuration is done, as a reader would. */
async function enforce({ files, remarks }: Imported): Promise<void> {
  const overlay = new Map(files.map(({ name, text }) => [name, text]))
  const { model } = await loadPolicies(empty, { now: Date.now(), overlay })
  if (model === null) throw new Error('the documents do not load')
  const said = (code: Remark['code']) => remarks.find((remark) => remark.code === code)?.message ?? ''
  const hook = /hooks: \[(forward|output)\]/.exec(said('hooks'))?.[1] as 'forward' | 'output' | undefined
  const outside = /put (.*) into firewall/.exec(said('outside-interfaces'))?.[1]
  const uids = await findUserIds(
    model.relays.flatMap(({ users }) => [...users]),
    runProcess,
  )
  const ruleset = compile(model, {
    ...DEFAULT_COMPILE_OPTIONS,
    hooks: hook === undefined ? ['forward', 'output'] : [hook],
    outsideInterfaces: outside === undefined ? [] : outside.split(', '),
    uids,
  })
  await new Enforcer(field.nft, null).apply(ruleset)
}

async function clear(): Promise<void> {
  await gateway(['nft', 'flush', 'ruleset'])
  await gateway(['ipset', 'destroy'])
}

async function gateway(argv: readonly [string, ...string[]], input?: string): Promise<string> {
  const { code, stdout, stderr } = await field.inGateway(argv, {
    timeout: 60_000,
    ...(input === undefined ? {} : { input }),
  })
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  return stdout
}

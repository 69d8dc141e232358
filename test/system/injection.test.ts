/**
 * No text that a person writes becomes nft's: every string of every document, and of the configuration where it
 * reaches the script, is tried with what would hurt, and whatever is accepted is run by the real nft. Each run is the
 * same; with another SEED in the environment there are other texts.
 */
import fc from 'fast-check'
import t from 'tap'
import type { TSchema } from 'typebox'
import { compile } from '../../src/compile/compile.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import { type CompileOptions, DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { parseConfig } from '../../src/config/config.ts'
import { ConfigError } from '../../src/config-error.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { DIAGNOSTIC_CODES, type Diagnostic } from '../../src/policy/diagnostic.ts'
import { checkDocument } from '../../src/policy/document.ts'
import { renderDocument } from '../../src/policy/edit.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { DOCUMENT_SCHEMAS, type Document, KINDS, type Kind } from '../../src/policy/schema.ts'
import { openField } from '../golden/field.ts'

const SEED = Number(process.env['SEED'] ?? 25)
t.comment(`SEED=${SEED}`)

const field = await openField()
t.teardown(() => field.close())

/** A document of each kind with every field, so that each string has its place in a script if it ever has one. */
const WORLD: Readonly<Record<Kind, object>> = {
  policy: {
    kind: 'policy',
    name: 'harmless',
    description: 'harmless',
    networks: ['100.64.0.0/10', '@harmless'],
    mode: 'enforce',
    action: 'redirect',
    redirect_to: 'harmless',
    detection: {
      spam_bot: { attempts: 30, destinations: 10, window: '5m', connections: 200 },
      slow_bot: { destinations: 20, window: '1d' },
      scanner: { destinations: 128, window: '1h' },
      misconfigured: { attempts: 5, window: '10m' },
      exempt_host: { factor: 5, attempts: 200, destinations: 50, learn: '7d' },
      flood: { sources: 2_000, window: '1m' },
      resolve_after: '1h',
      reopen_within: '1d',
      ipv6_prefix: 64,
    },
  },
  relay: {
    kind: 'relay',
    name: 'harmless',
    description: 'harmless',
    addresses: ['192.0.2.25', '2001:db8::25'],
    clients: ['100.64.0.0/10'],
    users: ['harmless'],
  },
  exemption: {
    kind: 'exemption',
    name: 'harmless',
    description: 'harmless',
    sources: ['100.64.12.7', '2001:db8:100::7'],
    destinations: ['203.0.113.0/24'],
    rate: '30/minute',
    expires: '2099-12-31T00:00:00Z',
    reason: 'harmless',
    owner: 'harmless',
    ticket: 'harmless',
  },
  list: {
    kind: 'list',
    name: 'harmless',
    description: 'harmless',
    prefixes: ['10.20.0.0/16', '2001:db8:200::/48'],
  },
  test: {
    kind: 'test',
    name: 'harmless',
    description: 'harmless',
    expect: [{ from: '100.64.1.2', to: '203.0.113.9', port: 25, user: 'harmless', verdict: 'block' }],
  },
}

interface Shape {
  readonly type?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly properties?: Readonly<Record<string, Shape>>
  readonly items?: Shape
}

type Path = readonly (string | number)[]

/** The way to every string that the schema takes; of a sequence's entries, to the first. */
function strings(shape: Shape, path: Path = []): Path[] {
  if (shape.type === 'string' || shape.enum !== undefined || shape.const !== undefined) return [path]
  if (shape.items !== undefined) return strings(shape.items, [...path, 0])
  return Object.entries(shape.properties ?? {}).flatMap(([key, one]) => strings(one, [...path, key]))
}

const FIELDS = KINDS.flatMap((kind) =>
  strings(DOCUMENT_SCHEMAS[kind] as TSchema as Shape).map((path) => ({
    kind,
    path,
    name: `${kind}.${path.join('.')}`,
  })),
)

/** The documents with one string replaced. */
function worldWith(kind: Kind, path: Path, value: string): Record<Kind, object> {
  const world = structuredClone(WORLD) as Record<Kind, object>
  let at = world[kind] as Record<string | number, unknown>
  // A list has a file in place of prefixes.
  if (kind === 'list' && path[0] === 'file') delete at['prefixes']
  for (const step of path.slice(0, -1)) at = at[step] as Record<string | number, unknown>
  at[path.at(-1) ?? ''] = value
  // Who refers to it goes along.
  if (path[0] === 'name' && kind === 'relay') Object.assign(world.policy, { redirect_to: value })
  if (path[0] === 'name' && kind === 'list')
    Object.assign(world.policy, { networks: ['100.64.0.0/10', `@${value}`] })
  return world
}

async function load(texts: readonly string[]) {
  const overlay = new Map(texts.map((text, index) => [`${KINDS[index]}.yaml`, text]))
  return loadPolicies(import.meta.dirname, { now: Date.now(), overlay })
}

type Answer = { readonly refused: readonly Diagnostic[] } | { readonly script: string }

async function answer(texts: readonly string[], options: Partial<CompileOptions> = {}): Promise<Answer> {
  const { model, diagnostics } = await load(texts)
  if (model === null) return { refused: diagnostics.filter(({ severity }) => severity === 'error') }
  return { script: renderReplacement(compile(model, { ...DEFAULT_COMPILE_OPTIONS, ...options })).text }
}

/** Without what names stand for, all scripts of the world are one. */
function normalised(script: string, ...names: readonly string[]): string {
  const digests = script.replace(/0x[0-9a-f]{8}/g, '0xID').replace(/era-[0-9a-f]{32}/g, 'era-ERA')
  return names.reduce(
    (text, name) =>
      text
        .replaceAll(
          new RegExp(
            `\\b((?:policy|attempt|landed|rated|rate[46]|[a-z]+)-)${name.replaceAll(/[^a-z0-9-]/gi, '\\$&')}(?=[ \n-])`,
            'g',
          ),
          '$1NAME',
        )
        .replaceAll(`:${name}" group`, ':NAME" group')
        .replaceAll(`"${name}"`, '"NAME"'),
    digests,
  )
}

const asJson = (world: Record<Kind, object>) => KINDS.map((kind) => JSON.stringify(world[kind], null, 1))
const asYaml = (world: Record<Kind, object>) => KINDS.map((kind) => renderDocument(world[kind] as Document))

/** What is accepted, with something behind it. */
const ALMOST = [
  'harmless',
  'eth0',
  '10.0.0.0/8',
  '192.0.2.1',
  '30/minute',
  '5m',
  '2099-12-31T00:00:00Z',
].flatMap((sound) => ['"} drop', '\nflush', ';'].map((more) => sound + more))

const HOSTILE = [
  ...ALMOST,
  '"; flush ruleset; #',
  '"\n}\ntable ip x {}\n',
  '\\"; flush ruleset; #',
  '$(touch /tmp/x)',
  '`id`',
  '}',
  '{',
  ';',
  '#',
  "'",
  '\\',
  '\n',
  '\r\nflush ruleset',
  ' ',
  'a b',
  'a;b',
  'a}b',
  'x'.repeat(64),
  'x'.repeat(129),
  'name\u0000',
  '\u0000',
  'naïve',
  'п',
  '\ud800',
  '\u202e',
  '\u001b[2J',
  '@harmless; flush ruleset',
  '@other',
  '@',
  '$harmless',
  'include "/etc/shadow"',
  'define x = 1',
  '-',
  '-f',
  '--help',
  '_x',
  '*',
  'eth*',
  '../../../../etc/shadow',
  '/etc/shadow',
  '10.0.0.0/8, 0.0.0.0/0',
  '10.0.0.1-10.0.0.9',
  '10.0.0.1 } ; flush ruleset',
  '::1%eth0',
  '1/minute; accept',
  '5m; accept',
  '2099-12-31T00:00:00Z accept',
  '%s%n',
  '__proto__',
  '',
]

/** Everything nft has a meaning for, its own names in this table, and what YAML reads as something else than text. */
const WORDS = `
  table tables chain chains rule rules set sets map maps element elements flowtable flowtables ruleset counter counters
  quota quotas limit limits synproxy synproxys secmark secmarks meter meters flow add create insert delete replace reset
  destroy list flush rename monitor export import describe include define redefine undefine handle position index comment
  policy type typeof hook device devices priority size flags timeout gc-interval expires elements auto-merge performance
  memory constant interval dynamic timestamp base filter nat route accept drop continue queue jump goto return last fwd
  dup reject snat dnat masquerade redirect tproxy log prefix snaplen queue-threshold level group all audit emerg alert
  crit err warn notice info debug rate burst until over unless packets bytes kbytes mbytes second minute hour day week
  inet ip ip6 arp bridge netdev ether vlan tcp udp udplite sctp dccp icmp icmpv6 icmpx igmp ah esp comp th saddr daddr
  sport dport protocol length ttl hoplimit nexthdr version hdrlength dscp ecn id frag-off checksum sequence ackseq doff
  reserved window urgptr option options offset operation mark meta cpu iif oif iifname oifname iiftype oiftype iifgroup
  oifgroup skuid skgid nftrace rtclassid ibrname obrname ibriport obriport ibridgename obridgename pkttype cgroup random
  ipsec hour day time ct state direction status mark expiration helper label original reply proto-src proto-dst zone
  event assured confirmed snat dnat dying new established related untracked invalid fib check mac osf socket transparent
  wildcard cgroupv2 rt classid nexthop mtu tcpopt exthdr hbh frag rt0 rt2 rt4 srh mh dst numgen inc mod jhash symhash
  seed seed0 vmap with to through ipip exists missing true false in eq ne lt gt le ge and or xor not yes no on off null
  ingress egress prerouting input forward output postrouting local loopback relayed exempted redirecting applied totals
  sources logged name policies egress25 0 1 25 0x19 1e3 1-2 a- a-- 0-0 x-30-minute 1-second until-0 4 6 4-x rate4
  tcp-reset 255-255-255-255 fin syn rst ack psh urg nan inf ~ host any
`
  .split(/\s+/)
  .filter((word, index, all) => /^[a-z0-9][a-z0-9-]{0,47}$/.test(word) && all.indexOf(word) === index)

const BASE = await answer(asJson(WORLD as Record<Kind, object>))
if (!('script' in BASE)) throw new Error(JSON.stringify(BASE))
const BASE_SCRIPT = BASE.script
const EXPECTED = normalised(BASE_SCRIPT, 'harmless')

/** Each of them different, and each to be run. */
const accepted = new Map<string, string>([[BASE.script, 'the harmless world']])

/** What somebody else's firewall looks like; it must look so for ever. */
const SENTINEL = `
table ip sentinel {
  set guarded { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
  chain input { type filter hook input priority 7; policy accept; ip saddr @guarded counter packets 7 bytes 7 drop; }
}
table inet x-harmless {
  chain policy-harmless {
    accept
  }
}
`

interface Listed {
  readonly [kind: string]:
    | { readonly family?: string; readonly table?: string; readonly name?: string }
    | undefined
}

/** Whose tables there are, and everything that is not ours. */
async function ruleset(): Promise<{ tables: string[]; others: string }> {
  const { code, stdout, stderr } = await field.inGateway(['nft', '-j', 'list', 'ruleset'], {
    timeout: 60_000,
  })
  if (code !== 0) throw new Error(stderr)
  const all = (JSON.parse(stdout) as { nftables: Listed[] }).nftables
  const tables = all
    .flatMap(({ table }) => (table === undefined ? [] : [`${table.family} ${table.name}`]))
    .sort()
  const isOurs = (one: Listed) => {
    const [kind, { table, name, family } = {}] = Object.entries(one)[0] ?? []
    return family === 'inet' && (kind === 'table' ? name : table) === 'egress25'
  }
  return { tables, others: JSON.stringify(all.filter((one) => !isOurs(one))) }
}

t.test('every string field is refused at its place, or leaves the script as it is', async (t) => {
  t.ok(FIELDS.length >= 35, `${FIELDS.length} fields`)
  let refusals = 0
  let kept = 0
  for (const { kind, path, name } of FIELDS) {
    const wrong: string[] = []
    for (const [index, value] of [...HOSTILE, 'drop', 'last', 'fwd'].entries()) {
      const world = worldWith(kind, path, value)
      const checked = checkDocument(world[kind])
      const pointer = `/${path.join('/')}`
      const atField =
        'document' in checked ||
        checked.problems.some(({ pointer: at, code }) => pointer.startsWith(at) || code === 'redirect-target')
      if (!atField) wrong.push(`${JSON.stringify(value)}: refused elsewhere`)
      // Refused by itself, it is refused in a file; where, is looked at now and then.
      if (!('document' in checked) && (index + name.length) % 4 > 0) continue
      // As a file, and as the API writes one.
      for (const texts of [asJson(world), 'document' in checked && index % 3 === 0 ? asYaml(world) : []]) {
        if (texts.length === 0) continue
        const found = await answer(texts)
        if ('refused' in found) {
          refusals++
          const file = `${kind}.yaml`
          if (!found.refused.some((one) => one.file === file && one.line > 1))
            wrong.push(`${JSON.stringify(value)}: refused without a place`)
        } else {
          kept++
          accepted.set(found.script, `${name}: ${value}`)
          if (normalised(found.script, 'harmless', value) !== EXPECTED && !isPrefixField(path)) {
            wrong.push(`${JSON.stringify(value)} changes the script`)
          }
          if (value.length > 4 && found.script.includes(value) && !BASE_SCRIPT.includes(value))
            wrong.push(`${JSON.stringify(value)} is in the script`)
        }
      }
    }
    t.same(wrong, [], name)
  }
  t.ok(refusals > 300 && kept > 100, `${refusals} refused, ${kept} without effect`)
})

/** A prefix that is one may be in the script: as numbers. */
function isPrefixField(path: Path): boolean {
  return ['networks', 'addresses', 'clients', 'sources', 'destinations', 'prefixes'].includes(String(path[0]))
}

t.test('whatever the string, the same', async (t) => {
  const scrap = fc.constantFrom(
    ...HOSTILE,
    ...WORDS.slice(0, 60),
    'a',
    '-',
    '10.0.0.0/8',
    '::/0',
    '@',
    '"',
    ' ',
    '30/minute',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.array(scrap, { maxLength: 4 }).map((parts) => parts.join('')),
  )
  const property = fc.assert(
    fc.asyncProperty(fc.constantFrom(...FIELDS), text, async ({ kind, path }, value) => {
      const found = await answer(asJson(worldWith(kind, path, value)))
      if ('refused' in found) return found.refused.every(({ code }) => code in DIAGNOSTIC_CODES)
      accepted.set(found.script, `${kind}.${path.join('.')}: ${value}`)
      return (
        isPrefixField(path) ||
        path[0] === 'rate' ||
        path[0] === 'expires' ||
        normalised(found.script, 'harmless', value) === EXPECTED
      )
    }),
    { numRuns: 200, seed: SEED },
  )
  await t.resolves(property)
})

t.test('interfaces of the configuration', async (t) => {
  const texts = asJson(WORLD as Record<Kind, object>)
  const withInterface = async (name: string): Promise<Answer> => {
    try {
      const { compile: options } = parseConfig(
        'c.yaml',
        `firewall:\n  outside_interfaces:\n    - ${JSON.stringify(name)}\n`,
      )
      return await answer(texts, options)
    } catch (error) {
      if (error instanceof ConfigError) return { refused: error.diagnostics }
      throw error
    }
  }
  const harmless = await withInterface('eth0')
  if (!('script' in harmless)) throw new Error('eth0 is the name of an interface')
  const expected = normalised(harmless.script, 'harmless', 'eth0', 'lo')
  let run = 0
  for (const name of [
    ...HOSTILE,
    'drop',
    'last',
    'fwd',
    'lo',
    'eth0.100',
    'wan:1',
    '0',
    '-1',
    '...',
    'a'.repeat(15),
    'a'.repeat(16),
  ]) {
    const found = await withInterface(name)
    if ('refused' in found) {
      t.match(
        found.refused[0],
        { code: /./, file: 'c.yaml', line: name === '\n' ? Number : 3 },
        JSON.stringify(name),
      )
      continue
    }
    run++
    accepted.set(found.script, `interface ${name}`)
    t.equal(normalised(found.script, 'harmless', name, 'lo'), expected, JSON.stringify(name))
  }
  t.ok(run >= 10, `${run} names are accepted`)
})

t.test('what was accepted is run, and touches nothing that is not ours', async (t) => {
  const before = await field.inGateway(['nft', '-f', '-'], { timeout: 60_000, input: SENTINEL })
  t.equal(before.code, 0, before.stderr)
  const { others } = await ruleset()
  const tablesOfAll = ['inet egress25', 'inet x-harmless', 'ip sentinel']
  t.ok(accepted.size >= 15, `${accepted.size} scripts`)
  const touching: string[] = []
  for (const [script, what] of accepted) {
    await field.nft.apply(script)
    const after = await ruleset()
    if (after.others !== others || after.tables.join() !== tablesOfAll.join()) touching.push(what)
  }
  t.same(touching, [])

  t.test('names that mean something to nft, or to YAML', async (t) => {
    t.ok(WORDS.length > 300, `${WORDS.length} words`)
    const documents = WORDS.flatMap((name, n) => {
      const [a, b] = [n >> 8, n & 255]
      return [
        {
          ...WORLD.policy,
          name,
          action: 'redirect',
          redirect_to: name,
          networks: [`10.${a}.${b}.0/24`, `@${name}`],
        },
        { ...WORLD.relay, name, addresses: [`192.0.${a}.${b}`], users: ['harmless'] },
        { ...WORLD.exemption, name, sources: [`10.${a}.${b}.7`], destinations: ['203.0.113.9'] },
        { ...WORLD.list, name, prefixes: [`2001:db8:${n.toString(16)}::/64`] },
        {
          ...WORLD.test,
          name,
          expect: [
            {
              from: `10.${a}.${b}.1`,
              to: '203.0.113.9',
              verdict: 'redirect',
            },
          ],
        },
      ]
    })
    const { model, diagnostics } = await load([documents.map((one) => JSON.stringify(one)).join('\n---\n')])
    t.same(
      diagnostics.filter(({ severity }) => severity === 'error'),
      [],
    )
    // As people write them, without quotes: what YAML reads as a number or a truth value says so.
    const plain = await load([
      `kind: list\nname: drop\nprefixes: [10.0.0.0/8]\n---\nkind: list\nname: 0x19\nprefixes: [10.0.0.0/8]\n`,
    ])
    t.match(plain.diagnostics, [{ line: 6, code: 'wrong-type', message: /quotes/ }])
    const harmless = (await load(asJson(WORLD as Record<Kind, object>))).model
    if (model === null || harmless === null) throw new Error('no model')
    const enforcer = new Enforcer(field.nft, null)
    const steps = [harmless, model, harmless, model].map((one) => compile(one, DEFAULT_COMPILE_OPTIONS))
    for (const { chains, tables: sets, learned } of steps) {
      for (const names of [chains, [...sets, ...learned]].map((all) => all.map((one) => one.name))) {
        t.equal(new Set(names).size, names.length, 'no name is given twice')
      }
    }
    const how: string[] = []
    for (const step of steps) how.push((await enforcer.apply(step)).how)
    t.same(how.slice(1), ['delta', 'delta', 'delta'], 'also one by one')
    const { tables, others: left } = await ruleset()
    t.equal(left, others)
    t.same(tables, tablesOfAll)
    await field.nft.apply(renderReplacement(steps[1]!).text)
    t.equal((await ruleset()).others, others)
  })
})

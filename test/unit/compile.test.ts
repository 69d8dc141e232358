/** From models to rulesets, scripts and deltas: stable, minimal, and safe whatever the names. */
import fc from 'fast-check'
import t from 'tap'
import { nextOf } from '../../src/compile/applied-log.ts'
import { compile } from '../../src/compile/compile.ts'
import { sourcesSet } from '../../src/compile/compile-policies.ts'
import { type Delta, difference, sizeOf } from '../../src/compile/delta.ts'
import { flatten, LookupTables, splitKey } from '../../src/compile/lookup-tables.ts'
import { renderDelta } from '../../src/compile/nft/delta-script.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import { type CompileOptions, DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { Totals } from '../../src/compile/totals.ts'
import {
  DEFAULT_THRESHOLDS,
  type Exemption,
  type Model,
  type Policy,
  type Relay,
} from '../../src/policy/model.ts'
import { type Prefix, parsePrefix, truncate } from '../../src/policy/prefix.ts'
import { PrefixSet } from '../../src/policy/prefix-set.ts'
import './seed.ts'

const origin = { file: 'p.yaml', line: 1, column: 1 }
const one = (text: string) => parsePrefix(text) as Prefix
const prefixes = (...texts: string[]) => PrefixSet.of(texts.map(one))

const policy = (name: string, networks: string[], more: Partial<Policy> = {}): Policy => ({
  kind: 'policy',
  name,
  origin,
  networks: prefixes(...networks),
  mode: 'enforce',
  action: 'reject',
  redirect: null,
  thresholds: DEFAULT_THRESHOLDS,
  ...more,
})
const exemption = (name: string, sources: string[], more: Partial<Exemption> = {}): Exemption => ({
  kind: 'exemption',
  name,
  origin,
  sources: prefixes(...sources),
  destinations: null,
  rate: null,
  expires: null,
  ...more,
})
const relay = (name: string, addresses: string[], more: Partial<Relay> = {}): Relay => ({
  kind: 'relay',
  name,
  origin,
  addresses: prefixes(...addresses),
  clients: null,
  users: [],
  ...more,
})
const model = (more: Partial<Model>): Model => ({
  policies: [],
  relays: [],
  exemptions: [],
  tests: [],
  ...more,
})
const options = (more: Partial<CompileOptions> = {}): CompileOptions => ({
  ...DEFAULT_COMPILE_OPTIONS,
  ...more,
})
const rulesetOf = (more: Partial<Model>, with_: Partial<CompileOptions> = {}) =>
  compile(model(more), options(with_))

t.test('tables', async (t) => {
  t.test(
    'one for each length, keys sorted and distinct; of maps the longest first, of sets the shortest',
    async (t) => {
      const some = prefixes('10.0.0.0/8', '192.0.2.0/24', '10.1.0.0/16', '9.0.0.0/8', '10.0.0.0/8')
      const others = prefixes('2001:db8::/32', '9.0.0.0/8')
      const ofFour = [
        ['x4-8', [0x09000000, 0x0a000000]],
        ['x4-16', [0x0a010000]],
        ['x4-24', [0xc0000200]],
      ]
      const ofSix = ['x6-32', [0x20010db8000000000000000000000000n]]
      for (const [target, expected] of [
        [null, [...ofFour, ofSix]],
        ['there', [...ofFour.toReversed(), ofSix]],
      ] as const) {
        const tables = new LookupTables('x')
        tables.add(some, null, target)
        tables.add(others, null, target)
        t.same(
          tables.finish().map((table) => [table.name, [...flatten(table).keys]]),
          expected,
        )
      }
    },
  )

  t.test('pairs keep their halves, and unlike families make none', async (t) => {
    const tables = new LookupTables('x')
    const [four, net, six, net6] = ['255.255.255.255', '203.0.113.0/24', '2001:db8::1', 'ff00::/8'].map(one)
    if (!four || !net || !six || !net6) throw new Error('prefixes')
    tables.add(PrefixSet.of([four]), PrefixSet.of([net]))
    tables.add(PrefixSet.of([six]), PrefixSet.of([net6]))
    tables.add(PrefixSet.of([four]), PrefixSet.of([net6]))
    const found = tables.finish()
    t.same(
      found.map(({ name }) => name),
      ['x4-32-24', 'x6-128-8'],
    )
    for (const [table, pair] of [
      [found[0], [four, net]],
      [found[1], [six, net6]],
    ] as const) {
      t.same(
        splitKey(table?.key ?? { family: 4, source: null, destination: null }, table?.parts[0]?.keys[0] ?? 0),
        pair.map((p) => p.address),
      )
    }
  })
})

t.test('counters keep their ids whatever else comes and goes', async (t) => {
  const one = new Totals().id({ of: 'attempts', policy: 'a', verdict: 'block' })
  const many = new Totals()
  for (let i = 0; i < 5_000; i++) many.id({ of: 'attempts', policy: `p${i}`, verdict: 'block' })
  t.equal(many.id({ of: 'attempts', policy: 'a', verdict: 'block' }), one)
  t.equal(many.finish().length, 5_001)
  t.not(many.id({ of: 'attempts', policy: 'a', verdict: 'observe' }), one)
})

t.test('one machine is an address, or an IPv6 prefix', async (t) => {
  t.equal(sourcesSet(one('192.0.2.1')), 'sources4')
  t.equal(sourcesSet(truncate(one('2001:db8::1'), 56)), 'sources6-56')
})

t.test('465 and 587 cannot be expressed: port 25 is the only port in any script', async (t) => {
  const script = renderReplacement(
    rulesetOf({
      policies: [policy('a', ['0.0.0.0/0', '::/0']), policy('p587', ['10.0.0.0/8'], { action: 'drop' })],
      relays: [relay('r465', ['192.0.2.25'], { clients: prefixes('10.0.0.0/8') })],
      exemptions: [exemption('e', ['10.0.0.1'], { rate: { count: 587, per: 'hour' } })],
    }),
  ).text
  const ports = [...script.matchAll(/\b(dport|sport|th)\b[^\n]*/g)].map(([text]) => text)
  t.same([...new Set(ports)], ['th dport 25 goto egress', 'th dport 25 goto local'])
})

t.test('log and count never share a rule with the verdict', async (t) => {
  const { chains } = rulesetOf({
    policies: [policy('a', ['10.0.0.0/8']), policy('b', ['11.0.0.0/8'], { action: 'drop' })],
  })
  for (const { name, rules } of chains.filter((chain) => chain.name.startsWith('policy-'))) {
    t.same(
      rules.map(({ rule }) => rule),
      ['first', 'verdict'],
      name,
    )
  }
})

t.test('the script is the same for the same model, in whatever order its parts come', async (t) => {
  const policies = [policy('a', ['10.0.0.0/8', '10.2.0.0/16']), policy('b', ['10.1.0.0/16', '2001:db8::/32'])]
  const exemptions = [
    exemption('e', ['10.0.0.1', '10.0.0.2']),
    exemption('f', ['10.0.0.3'], { expires: 4e12 }),
  ]
  const forth = renderReplacement(rulesetOf({ policies, exemptions }))
  const back = renderReplacement(
    rulesetOf({
      policies: policies.map((p) => ({ ...p, networks: PrefixSet.of([...p.networks].reverse()) })),
      exemptions: [...exemptions].reverse(),
    }),
  )
  t.same(forth, back)
})

t.test('where several exemptions end, the latest end counts; one without end outlasts them', async (t) => {
  const { tables } = rulesetOf({
    exemptions: [
      exemption('a', ['10.0.0.1'], { expires: 2_000_000_000_000 }),
      exemption('b', ['10.0.0.1'], { expires: 3_000_000_000_000 }),
      exemption('c', ['10.0.0.1'], { expires: 1_000_000_000_000 }),
      exemption('d', ['10.0.0.2']),
    ],
  })
  const until = tables.find(({ name }) => name === 'until4-32')
  t.same(until && flatten(until).targets, ['until-3000000000'])
  t.same(
    tables.map(({ name }) => name),
    ['exempt4-32', 'until4-32'],
  )
})

t.test(
  'users are looked for where packets are made, and nobody is when the machine lacks them',
  async (t) => {
    const relays = [relay('r', ['192.0.2.25'], { users: ['postfix', 'exim'] })]
    const users = (uids: ReadonlyMap<string, number>) =>
      rulesetOf({ relays }, { uids }).chains.flatMap(({ name, rules }) =>
        rules.flatMap((rule) => (rule.rule === 'users' ? [[name, ...rule.uids]] : [])),
      )
    t.same(users(new Map([['postfix', 101]])), [['local', 101]])
    t.same(users(new Map()), [])
  },
)

t.test('deltas', async (t) => {
  const base: Partial<Model> = {
    policies: [policy('a', ['10.0.0.0/8'])],
    exemptions: [exemption('e', ['10.0.0.1', '10.0.0.2'])],
  }

  t.test('one more exemption costs one element', async (t) => {
    const more = { ...base, exemptions: [exemption('e', ['10.0.0.1', '10.0.0.2', '10.0.0.3'])] }
    const delta = difference(rulesetOf(base), rulesetOf(more))
    t.same(delta && sizeOf(delta), { elements: 1, chains: 0 })
    const before = { era: 'e'.repeat(32), oldest: 1, newest: 1 }
    const { text, log } = renderDelta(delta as Delta, before, '1'.repeat(32))
    t.same(
      text.split('\n').filter((line) => line.includes('exempt4')),
      ['add element inet egress25 exempt4-32 { 10.0.0.3 }'],
    )
    t.match(text, /^add element inet egress25 era-e{32} /, 'only where the table is the one that is meant')
    t.match(text, /create element inet egress25 applied \{ 0x00000002 : 0x11111111/, 'and nobody was quicker')
    t.notMatch(text, /delete/, 'a deletion waits for an RCU grace period')
    t.same(log, { ...before, newest: 2 })
  })

  t.test('the log of rulesets is cut when something else is deleted, or when it is long', async (t) => {
    const less = { ...base, exemptions: [exemption('e', ['10.0.0.1'])] }
    const before = { era: 'e'.repeat(32), oldest: 3, newest: 5 }
    const { text, log } = renderDelta(
      difference(rulesetOf(base), rulesetOf(less)) as Delta,
      before,
      '1'.repeat(32),
    )
    t.match(text, /delete element inet egress25 applied \{ 0x00000003, 0x00000004, 0x00000005 \}/)
    t.same(log, { ...before, oldest: 6, newest: 6 })
    t.same(nextOf({ ...before, oldest: 1, newest: 63 }, false), { ...before, oldest: 1, newest: 64 })
    t.same(nextOf({ ...before, oldest: 1, newest: 64 }, false), { ...before, oldest: 65, newest: 65 })
  })

  t.test('the same ruleset is no change', async (t) => {
    const delta = difference(rulesetOf(base), rulesetOf(base))
    t.same(delta && sizeOf(delta), { elements: 0, chains: 0 })
  })

  t.test('a changed action refills one chain', async (t) => {
    const dropping = { ...base, policies: [policy('a', ['10.0.0.0/8'], { action: 'drop' })] }
    const delta = difference(rulesetOf(base), rulesetOf(dropping))
    t.same(
      delta?.changedChains.map(({ name }) => name),
      ['policy-a'],
    )
    t.equal(delta?.tables.length, 0)
  })

  t.test('another hook comes or goes by itself', async (t) => {
    const [both, one] = [rulesetOf(base), rulesetOf(base, { hooks: ['forward'] })]
    const ofUsers = ['attempt-a', 'sent-exemption', 'sent-relay'].map((name) => `by-user-${name}`)
    t.same(
      difference(both, one)
        ?.removedChains.map(({ name }) => name)
        .sort(),
      [...ofUsers, 'local', 'output'],
    )
    t.same(
      difference(one, both)
        ?.addedChains.map(({ name }) => name)
        .sort(),
      [...ofUsers, 'local', 'output'],
    )
  })

  t.test('another priority or size of a learned set needs a replacement', async (t) => {
    const from = rulesetOf(base)
    t.equal(difference(from, rulesetOf(base, { priority: 0 })), null)
    t.equal(difference(from, rulesetOf(base, { trackedSources: 1_024 })), null)
  })

  t.test('from any table to any other, the walk finds exactly what differs', async () => {
    const set = fc.uniqueArray(fc.nat({ max: 40 }), { maxLength: 30 })
    const hosts = (values: readonly number[]) => values.map((value) => `10.0.0.${value}`)
    fc.assert(
      fc.property(set, set, (before, after) => {
        const delta = difference(
          rulesetOf({
            exemptions:
              before.length > 0 ? [exemption('e', hosts([...before, 99]))] : [exemption('e', ['10.0.0.99'])],
          }),
          rulesetOf({ exemptions: [exemption('e', hosts([...after, 99]))] }),
        )
        const [change] = delta?.tables ?? []
        const low = (entries: readonly { key: number | bigint }[] = []) =>
          entries.map(({ key }) => Number(key) & 255).sort((a, b) => a - b)
        const minus = (a: readonly number[], b: readonly number[]) =>
          a.filter((x) => !b.includes(x)).sort((x, y) => x - y)
        return (
          JSON.stringify(low(change?.added)) === JSON.stringify(minus(after, before)) &&
          JSON.stringify(low(change?.removed)) === JSON.stringify(minus(before, after))
        )
      }),
      { numRuns: 300 },
    )
  })
})

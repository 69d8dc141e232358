/** Plans: what a change of policies means, said exactly, and held against the reference verdict. */
import fc from 'fast-check'
import t from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { type Compiled, makePlan, NOTHING } from '../../src/plan/plan.ts'
import { planBody } from '../../src/plan/plan-body.ts'
import { prefixesOf } from '../../src/plan/prefixes-of-range.ts'
import { planLines, planMarkdown } from '../../src/plan/render.ts'
import { verdictAt, verdictMap } from '../../src/plan/verdict-map.ts'
import { decide } from '../../src/policy/decide.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { Model } from '../../src/policy/model.ts'
import { contains, formatPrefix, type Prefix, parseAddress, parsePrefix } from '../../src/policy/prefix.ts'
import { directories, edgesOf, pairs } from '../golden/random.ts'
import './seed.ts'

const NOW = Date.parse('2026-06-01T00:00:00Z')
const ip = (text: string) => parseAddress(text) as Prefix

/** The files are laid over a folder without policies. */
async function compiled(files: Record<string, string> | string): Promise<Compiled> {
  const all = typeof files === 'string' ? { 'p.yaml': files } : files
  const overlay = new Map(Object.entries(all))
  const loaded = await loadPolicies(import.meta.dirname, { now: NOW, overlay })
  const { model, diagnostics } = loaded
  if (model === null) throw new Error(JSON.stringify(diagnostics))
  return { loaded, model, ruleset: compile(model, DEFAULT_COMPILE_OPTIONS) }
}

const POOL = 'kind: policy\nname: pool\nnetworks: [100.64.0.0/10, "2001:db8:100::/40"]\n'
const RELAY = '---\nkind: relay\nname: mx\naddresses: [192.0.2.25]\nclients: [100.64.0.0/16]\n'

async function verdicts(before: string, after: string) {
  const plan = makePlan(await compiled(before), await compiled(after), NOW)
  return plan.verdicts.changes.map(
    ({ from, to, destination, sources, prefixes, addresses }) =>
      `${from} ${to} ${destination ?? '*'} ${sources.join(' ')} ${prefixes} ${addresses}`,
  )
}

t.test('nothing changes', async (t) => {
  const pool = await compiled(POOL)
  const plan = planBody(makePlan(pool, await compiled({ 'elsewhere/q.yaml': POOL }), NOW))
  t.match(plan, { documents: [], verdicts: [], rules: { how: 'unchanged' }, traffic: null })
  t.same(planLines(plan), ['nothing would change'])
  const described = planBody(makePlan(pool, await compiled(`${POOL}description: For people.\n`), NOW))
  t.match(described, {
    documents: [{ change: 'changed', kind: 'policy', name: 'pool', keys: ['description'] }],
    verdicts: [],
    rules: { how: 'unchanged' },
  })
  t.match(planLines(described).join('\n'), /pool.*description/)
})

t.test('whose packets meet another verdict', async (t) => {
  t.test('a first policy', async (t) => {
    const plan = makePlan(NOTHING, await compiled(POOL), NOW)
    t.match(plan.verdicts.changes, [
      {
        from: 'ungoverned',
        to: 'block',
        destination: null,
        sources: ['100.64.0.0/10'],
        addresses: 2n ** 22n,
      },
      { from: 'ungoverned', to: 'block', sources: ['2001:db8:100::/40'], addresses: 2n ** 88n },
    ])
    t.equal(plan.rules.elements.added, 2)
  })
  t.test('an exemption, whole and for one place', async (t) => {
    const one = '---\nkind: exemption\nname: e\nsources: [100.64.12.6/31]\n'
    t.same(await verdicts(POOL, POOL + one), ['block allow * 100.64.12.6/31 1 2'])
    t.same(await verdicts(POOL + one, POOL), ['allow block * 100.64.12.6/31 1 2'])
    const there = `${one}destinations: [203.0.113.0/24]\n`
    t.same(await verdicts(POOL, POOL + there), ['block allow 203.0.113.0/24 100.64.12.6/31 1 2'])
    t.same(await verdicts(POOL + one, POOL + there), ['allow block * 100.64.12.6/31 1 2'])
    t.same(await verdicts(POOL, `${POOL + one}expires: 2020-01-01T00:00:00Z\n`), [], 'long over')
    t.same(await verdicts(POOL, `${POOL + one}rate: 1/day\n`), ['block allow * 100.64.12.6/31 1 2'])
  })
  t.test('a relay: what it sends, and who submits', async (t) => {
    t.same(await verdicts(POOL, POOL + RELAY), [
      'ungoverned allow * 192.0.2.25 1 1',
      'block allow 192.0.2.25 100.64.0.0/16 1 65536',
    ])
    t.same(await verdicts(POOL + RELAY, POOL + RELAY.replace('/16', '/17')), [
      'allow block 192.0.2.25 100.64.128.0/17 1 32768',
    ])
  })
  t.test('a longer network of another policy, and its mode', async (t) => {
    const campus = '---\nkind: policy\nname: campus\nnetworks: [100.64.8.0/24]\nmode: observe\n'
    t.same(await verdicts(POOL, POOL + campus), ['block observe * 100.64.8.0/24 1 256'])
    t.same(await verdicts(POOL + campus, POOL + campus.replace('observe', 'enforce')), [
      'observe block * 100.64.8.0/24 1 256',
    ])
    t.same(await verdicts(POOL, POOL.replace('100.64.0.0/10', '100.64.0.0/11')), [
      'block ungoverned * 100.96.0.0/11 1 2097152',
    ])
  })
  t.test('a list that grows', async (t) => {
    const withList = (lines: string) => ({
      'p.yaml': 'kind: policy\nname: p\nnetworks: ["@l"]\n---\nkind: list\nname: l\nfile: l.txt\n',
      'l.txt': lines,
    })
    const plan = makePlan(
      await compiled(withList('10.0.0.0/24\n10.0.2.0/24\n')),
      await compiled(withList('10.0.0.0/24\n10.0.1.0/24\n')),
      NOW,
    )
    t.match(plan.documents, [
      { change: 'changed', kind: 'list', keys: [], prefixes: { added: 1, removed: 1 } },
    ])
    t.match(plan.rules, { how: 'delta', elements: { added: 1, removed: 1 }, chains: { changed: [] } })
    t.match(plan.verdicts.changes, [
      { from: 'ungoverned', to: 'block', sources: ['10.0.1.0/24'] },
      { from: 'block', to: 'ungoverned', sources: ['10.0.2.0/24'] },
    ])
  })
  t.test('machines that tried', async (t) => {
    const tried = ['100.64.1.1', '100.64.1.2', '8.8.8.8', '2001:db8:100::/64'].map((text, index) => ({
      machine: parsePrefix(text) as Prefix,
      attempts: index + 1,
    }))
    const observing = await compiled(`${POOL}mode: observe\n`)
    const { traffic } = makePlan(observing, await compiled(POOL), NOW, tried)
    t.same(traffic, [
      {
        from: 'observe',
        to: 'block',
        machines: 3,
        attempts: 7,
        worst: ['2001:db8:100::/64', '100.64.1.2', '100.64.1.1'],
      },
    ])
  })
})

t.test('too much to list is counted', async (t) => {
  const many = Array.from({ length: 1_500 }, (_, i) => `10.${i >> 7}.${(i & 127) * 2}.0/24`).join(', ')
  const plan = planBody(
    makePlan(NOTHING, await compiled(`kind: policy\nname: p\nnetworks: [${many}]\n`), NOW),
  )
  t.equal(plan.verdicts[0]?.prefixes, 1_500)
  t.equal(plan.verdicts[0]?.sources.length, 1_000)
  t.equal(plan.verdicts[0]?.addresses, String(1_500 * 256))
  t.ok(planLines(plan).every((line) => line.length < 1_000))
  t.match(planMarkdown(plan), /1488 more prefixes/)
})

t.test('ranges become the fewest prefixes', async () => {
  const address = fc.nat({ max: 0xffffffff })
  fc.assert(
    fc.property(address, address, (a, b) => {
      const [first, last] = [Math.min(a, b), Math.max(a, b)]
      const prefixes = [...prefixesOf(4, first, last)]
      let next = BigInt(first)
      for (const prefix of prefixes) {
        if (BigInt(prefix.address) !== next || typeof parsePrefix(formatPrefix(prefix)) === 'string')
          return false
        next += 1n << BigInt(32 - prefix.length)
      }
      return next === BigInt(last) + 1n && prefixes.length <= 62
    }),
  )
})

/** Towards where: somewhere that no document names, or a named prefix where no smaller one is named. */
function* destinations(model: Model): Generator<{ destination: Prefix | null; example: Prefix }> {
  const named = [
    ...model.relays.flatMap(({ addresses }) => [...addresses]),
    ...model.exemptions.flatMap(({ destinations }) => [...(destinations ?? [])]),
  ].filter(({ length }) => length > 0)
  const examples = [...edgesOf(model), ip('9.9.9.9'), ip('2620:fe::9')]
  for (const example of examples) {
    const around = named.filter((prefix) => contains(prefix, example))
    const [smallest = null] = around.sort((a, b) => b.length - a.length)
    yield { destination: smallest, example }
  }
}

t.test('the map of verdicts says what decide() says of every address', async (t) => {
  let compared = 0
  await fc.assert(
    fc.asyncProperty(directories, async ({ yaml }) => {
      const { model } = await compiled(yaml)
      const sources = edgesOf(model)
      for (const { destination, example } of destinations(model)) {
        const map = verdictMap(model, example.family, destination, NOW)
        for (const source of sources.filter(({ family }) => family === example.family)) {
          compared++
          const { verdict } = decide(model, { source, destination: example, port: 25 }, NOW)
          if (verdictAt(map, source.address) !== verdict) {
            throw new Error(`${formatPrefix(source)} to ${formatPrefix(example)}: ${verdict}`)
          }
        }
      }
    }),
    { numRuns: 20 },
  )
  t.ok(compared > 10_000, `${compared} packets`)
})

t.test('a plan names exactly the sources whose verdict changes', async () => {
  await fc.assert(
    fc.asyncProperty(pairs, async ([before, after]) => {
      const [old, now] = [await compiled(before.yaml), await compiled(after.yaml)]
      const { changes } = makePlan(old, now, NOW).verdicts
      const known = [...destinations(old.model), ...destinations(now.model)].filter(
        ({ example }) => !contains(ip('9.9.9.9'), example),
      )
      const inBoth = (example: Prefix) =>
        [old.model, now.model].every((model) =>
          [...destinations(model)].some((one) => one.destination === null && contains(one.example, example)),
        )
      for (const { example } of known.filter(
        ({ destination, example }) => destination === null && inBoth(example),
      )) {
        for (const source of [...edgesOf(old.model), ...edgesOf(now.model)]) {
          if (source.family !== example.family) continue
          const packet = { source, destination: example, port: 25 }
          const [from, to] = [decide(old.model, packet, NOW).verdict, decide(now.model, packet, NOW).verdict]
          const said = changes.find(
            (change) =>
              change.destination === null &&
              change.sources.some((text) => contains(parsePrefix(text) as Prefix, source)),
          )
          if ((from === to ? undefined : `${from} ${to}`) !== (said && `${said.from} ${said.to}`)) {
            throw new Error(`${formatPrefix(source)} to ${formatPrefix(example)}: ${from} to ${to}`)
          }
        }
      }
    }),
    { numRuns: 15 },
  )
})

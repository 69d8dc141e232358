/** The policy layer: text to model, diagnostics with their places, the reference verdict. */
import { rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { decide, governingPolicy } from '../../src/policy/decide.ts'
import { DIAGNOSTIC_CODES, type Diagnostic, type DiagnosticCode } from '../../src/policy/diagnostic.ts'
import { removeDocument, replaceDocument } from '../../src/policy/edit.ts'
import { explain } from '../../src/policy/explain.ts'
import { parseDuration, parseRate, parseTimestamp } from '../../src/policy/formats.ts'
import { policyJsonSchema } from '../../src/policy/json-schema.ts'
import { LoadMemory, loadPolicies } from '../../src/policy/load.ts'
import { DEFAULT_THRESHOLDS, type Model, type Policy } from '../../src/policy/model.ts'
import { runPolicyTests } from '../../src/policy/policy-tests.ts'
import {
  contains,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  truncate,
} from '../../src/policy/prefix.ts'
import { PrefixSet } from '../../src/policy/prefix-set.ts'
import { shadowedPolicies } from '../../src/policy/shadowed-networks.ts'
import { parseYaml } from '../../src/policy/yaml-source.ts'
import { directory } from './support.ts'
import './seed.ts'

const NOW = Date.parse('2026-06-01T00:00:00Z')

async function load(test: Test, files: Record<string, string | Uint8Array> | string) {
  const all = typeof files === 'string' ? { 'p.yaml': files } : files
  return loadPolicies(await directory(test, all), { now: NOW })
}

async function model(test: Test, yaml: string): Promise<Model> {
  const { model: found, diagnostics } = await load(test, yaml)
  if (found === null) throw new Error(JSON.stringify(diagnostics))
  return found
}

/** `code line:column`, which is what a diagnostic promises; the prose may change. */
const places = (diagnostics: readonly Diagnostic[]) =>
  diagnostics.map(({ code, line, column }) => `${code} ${line}:${column}`)

const ip = (text: string): Prefix => parseAddress(text) as Prefix
const verdict = (m: Model, source: string, destination: string, port = 25, user: string | null = null) =>
  decide(m, { source: ip(source), destination: ip(destination), port, user }, NOW).verdict

t.test('prefixes', async (t) => {
  t.test('strict forms only', async (t) => {
    for (const text of [
      '',
      ' 1.2.3.4',
      '1.2.3.4 ',
      '1.2.3',
      '010.0.0.1',
      '1.2.3.4/',
      '1.2.3.4/33',
      '1.2.3.4/08',
      '1.2.3.4/-1',
      '1.2.3.4/1/2',
      '1.2.3.256',
      '0x1.2.3.4',
      '::1%eth0',
      ':::',
      '::/129',
      '2001:db8::/032',
      '::ffff:1.2.3.4',
      '1.2.3.4\n',
      'localhost',
    ]) {
      t.equal(parsePrefix(text), 'bad-prefix', JSON.stringify(text))
    }
    for (const text of ['10.0.0.1/8', '2001:db8::1/32', '0.0.0.1/0', '::1/0']) {
      t.equal(parsePrefix(text), 'host-bits', text)
    }
  })

  t.test('canonical text, as RFC 5952 has it', async (t) => {
    const pairs = {
      '10.0.0.0/8': '10.0.0.0/8',
      '192.0.2.1/32': '192.0.2.1',
      '255.255.255.255': '255.255.255.255',
      '0.0.0.0/0': '0.0.0.0/0',
      '2001:DB8:0:0:0:0:0:25': '2001:db8::25',
      '2001:db8:0:1:0:0:0:0/64': '2001:db8:0:1::/64',
      '1:0:0:2:0:0:0:3': '1:0:0:2::3',
      '1:0:2:3:4:5:6:7': '1:0:2:3:4:5:6:7',
      '64:ff9b::192.0.2.1': '64:ff9b::c000:201',
      '::': '::',
    }
    for (const [text, canonical] of Object.entries(pairs))
      t.equal(formatPrefix(parsePrefix(text) as Prefix), canonical)
  })

  t.test('text and value agree for every prefix', async () => {
    const four = fc.tuple(fc.nat({ max: 0xffffffff }), fc.integer({ min: 0, max: 32 }))
    const six = fc.tuple(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 0, max: 128 }))
    fc.assert(
      fc.property(fc.oneof(four, six), ([address, length]) => {
        const whole =
          typeof address === 'number'
            ? ({ family: 4, address, length: 32 } as const)
            : ({ family: 6, address, length: 128 } as const)
        const prefix = truncate(whole, length)
        const again = parsePrefix(formatPrefix(prefix))
        // IPv4-mapped addresses are refused on purpose.
        if (typeof address === 'bigint' && BigInt(prefix.address) >> 32n === 0xffffn)
          return again === 'bad-prefix'
        return (
          typeof again !== 'string' && formatPrefix(again) === formatPrefix(prefix) && contains(prefix, whole)
        )
      }),
      { numRuns: 2_000 },
    )
  })
})

t.test('durations, rates and times', async (t) => {
  t.equal(parseDuration('30s'), 30_000)
  t.equal(parseDuration('7d'), 604_800_000)
  for (const text of ['0s', '5', '1w', '1h30m', '-1s', '1.5h', '99999d'])
    t.equal(parseDuration(text), null, text)
  t.same(parseRate('30/minute'), { count: 30, per: 'minute' })
  for (const text of ['0/minute', '30/week', '30 /minute', '2000000/second'])
    t.equal(parseRate(text), null, text)
  t.equal(parseTimestamp('2026-12-31T00:00:00Z'), Date.UTC(2026, 11, 31))
  t.equal(parseTimestamp('2026-12-31T02:00:00+02:00'), Date.UTC(2026, 11, 31))
  for (const text of [
    '2026-12-31',
    '2026-02-30T00:00:00Z',
    '2026-12-31T00:00:00',
    '31.12.2026',
    '2026-12-31T24:00:01Z',
  ]) {
    t.equal(parseTimestamp(text), null, text)
  }
})

/** One smallest directory for each code: a code that nothing can cause would be a lie in the reference. */
const CAUSES: Record<DiagnosticCode, Record<string, string | Uint8Array>> = {
  'unreadable-file': { 'a.yaml': 'kind: list\nname: l\nfile: none.txt\n' },
  'file-too-large': { 'a.yaml': `# ${'x'.repeat(4 * 1024 * 1024)}\n` },
  'bad-encoding': { 'a.yaml': new Uint8Array([0x6b, 0xff, 0xfe]) },
  'yaml-syntax': { 'a.yaml': 'kind: [policy\n' },
  'too-complex': {
    'a.yaml': `a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [${'*a, '.repeat(60)}]\nc: [${'*b, '.repeat(60)}]\n`,
  },
  'duplicate-key': { 'a.yaml': 'kind: list\nname: l\nname: m\n' },
  'not-a-document': { 'a.yaml': '- a\n- b\n' },
  'unknown-kind': { 'a.yaml': 'kind: polcy\nname: a\n' },
  'unknown-key': { 'a.yaml': 'kind: relay\nname: r\nadresses: [192.0.2.1]\naddresses: [192.0.2.1]\n' },
  'missing-key': { 'a.yaml': 'kind: relay\nname: r\n' },
  'wrong-type': { 'a.yaml': 'kind: relay\nname: r\naddresses: 192.0.2.1\n' },
  'bad-value': { 'a.yaml': 'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\nmode: enforced\n' },
  'bad-length': { 'a.yaml': 'kind: relay\nname: r\naddresses: []\n' },
  'bad-name': { 'a.yaml': 'kind: relay\nname: Mx\naddresses: [192.0.2.1]\n' },
  'bad-text': { 'a.yaml': 'kind: relay\nname: r\ndescription: "a\\u0007"\naddresses: [192.0.2.1]\n' },
  'bad-prefix': { 'a.yaml': 'kind: relay\nname: r\naddresses: [192.0.2]\n' },
  'host-bits': { 'a.yaml': 'kind: relay\nname: r\naddresses: [192.0.2.1/24]\n' },
  'bad-duration': {
    'a.yaml': 'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\ndetection: { resolve_after: 1w }\n',
  },
  'bad-rate': { 'a.yaml': 'kind: exemption\nname: e\nsources: [10.0.0.1]\nrate: lots\n' },
  'bad-timestamp': { 'a.yaml': 'kind: exemption\nname: e\nsources: [10.0.0.1]\nexpires: tomorrow\n' },
  'bad-user': { 'a.yaml': 'kind: relay\nname: r\naddresses: [192.0.2.1]\nusers: ["post fix"]\n' },
  'bad-path': { 'a.yaml': 'kind: list\nname: l\nfile: ../secret\n' },
  'duplicate-name': {
    'a.yaml':
      'kind: list\nname: l\nprefixes: [10.0.0.0/8]\n---\nkind: list\nname: l\nprefixes: [10.0.0.0/8]\n',
  },
  'duplicate-prefix': {
    'a.yaml':
      'kind: policy\nname: a\nnetworks: [10.0.0.0/8]\n---\nkind: policy\nname: b\nnetworks: [10.0.0.0/8]\n',
  },
  'conflicting-rates': {
    'a.yaml':
      'kind: exemption\nname: a\nsources: [10.0.0.1]\nrate: 1/minute\n---\n' +
      'kind: exemption\nname: b\nsources: [10.0.0.1]\nrate: 2/minute\n',
  },
  'dangling-list': { 'a.yaml': 'kind: policy\nname: p\nnetworks: ["@none"]\n' },
  'dangling-relay': {
    'a.yaml': 'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\naction: redirect\nredirect_to: none\n',
  },
  'redirect-target': { 'a.yaml': 'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\naction: redirect\n' },
  'list-source': { 'a.yaml': 'kind: list\nname: l\n' },
  'too-large': {
    'a.yaml':
      'kind: list\nname: l\nfile: l.txt\n---\nkind: exemption\nname: e\nsources: ["@l"]\ndestinations: ["@l"]\n',
    'l.txt': Array.from({ length: 1_001 }, (_, i) => `10.0.${i >> 8}.${i & 255}`).join('\n'),
  },
  'expired-exemption': {
    'a.yaml': 'kind: exemption\nname: e\nsources: [10.0.0.1]\nexpires: 2020-01-01T00:00:00Z\n',
  },
  'useless-exemption': { 'a.yaml': 'kind: exemption\nname: e\nsources: [10.0.0.1]\n' },
  'shadowed-exemption': {
    'a.yaml':
      'kind: exemption\nname: a\nsources: [10.0.0.0/24]\n---\nkind: exemption\nname: b\nsources: [10.0.0.1]\n',
  },
  'shadowed-policy': {
    'a.yaml':
      'kind: policy\nname: a\nnetworks: [10.0.0.0/8]\n---\n' +
      'kind: policy\nname: b\nnetworks: [10.0.0.0/9, 10.128.0.0/9]\n',
  },
  'unreachable-relay': {
    'a.yaml':
      'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\n---\n' +
      'kind: relay\nname: r\naddresses: [192.0.2.1]\nclients: [11.0.0.0/8]\n',
  },
  'governed-relay': {
    'a.yaml':
      'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\n---\nkind: relay\nname: r\naddresses: [10.0.0.25]\n',
  },
  'everyone-governed': { 'a.yaml': 'kind: policy\nname: p\nnetworks: ["::/0"]\n' },
}

t.test('every diagnostic code has a cause, and a place', async (t) => {
  t.same(Object.keys(CAUSES).sort(), Object.keys(DIAGNOSTIC_CODES).sort())
  for (const [code, files] of Object.entries(CAUSES)) {
    const { diagnostics, model: found } = await load(t, files)
    const hit = diagnostics.find((diagnostic) => diagnostic.code === code)
    t.ok(hit, `${code}, among ${JSON.stringify(diagnostics.map((d) => d.code))}`)
    t.ok(hit !== undefined && hit.line >= 1 && hit.column >= 1 && hit.file.length > 0, `${code} has a place`)
    t.equal(
      found === null,
      diagnostics.some(({ severity }) => severity === 'error'),
      `${code}: errors leave no model`,
    )
  }
})

t.test('what people often write is told once, by what helps', async (t) => {
  const two = (network: string) => `kind: policy\nname: ${network}\nnetworks: [10.0.0.0/8]\n`
  for (const [text, expected] of [
    [`${two('a')}---\n${two('b')}`, ['7:12 duplicate-prefix']],
    [`${two('a')}detection: { resolve_after: 5 }\n`, ['4:29 bad-duration']],
    ['kind: relay\nname: r\naddresses: [10]\n', ['3:13 bad-prefix']],
    ['kind: relay\nname: 1\naddresses: [192.0.2.1]\n', ['2:7 wrong-type']],
    ['kind: policy\nname: p\nnetworks: [@list]\n', ['3:12 yaml-syntax']],
  ] as const) {
    const { diagnostics } = await load(t, { 'a.yaml': text })
    t.same(
      diagnostics.map(({ line, column, code }) => `${line}:${column} ${code}`),
      expected,
      text,
    )
  }
})

t.test('several mistakes are reported at once, each where it stands', async (t) => {
  const { diagnostics, model: found } = await load(t, {
    'a.yaml': [
      'kind: policy',
      'name: residential',
      'networks: [100.64.0.1/10, "@nobody", 300.0.0.0/8]',
      'mod: enforce',
      'action: rejcet',
      '---',
      'kind: relay',
      'name: mx',
      'addresses:',
      '  - 192.0.2.25',
      '  - 192.0.2.x',
      '',
    ].join('\n'),
    'b/c.yaml': 'kind: exemption\nname: e\nsources: [100.64.0.1]\nexpires: 2026-13-01T00:00:00Z\n',
    'lists/l.txt': '10.0.0.0/8\n  10.0.0.1/8 # host bits\n\nnonsense\n',
    'l.yaml': 'kind: list\nname: branches\nfile: lists/l.txt\n',
  })
  t.equal(found, null)
  t.same(
    diagnostics.map(({ file, line, column, code }) => `${file}:${line}:${column} ${code}`),
    [
      'a.yaml:3:12 host-bits',
      'a.yaml:3:27 dangling-list',
      'a.yaml:3:38 bad-prefix',
      'a.yaml:4:1 unknown-key',
      'a.yaml:5:9 bad-value',
      'a.yaml:11:5 bad-prefix',
      'b/c.yaml:4:10 bad-timestamp',
      'lists/l.txt:2:3 host-bits',
      'lists/l.txt:4:1 bad-prefix',
    ],
  )
  t.match(diagnostics[4]?.message, /did you mean reject/)
})

t.test('references across documents', async (t) => {
  const { diagnostics } = await load(t, {
    'a.yaml': 'kind: policy\nname: p\nnetworks: ["@branch"]\n',
    'b.yaml': 'kind: list\nname: branches\nprefixes: [10.0.0.0/8]\n',
  })
  t.same(places(diagnostics), ['dangling-list 3:12'])
  t.match(diagnostics[0]?.message, /branches/)
})

t.test('documents held against each other', async (t) => {
  const pool = 'kind: policy\nname: pool\nnetworks: [10.0.0.0/8, "2001:db8::/32"]\n'
  const exemption = (name: string, rest: string) => `---\nkind: exemption\nname: ${name}\n${rest}\n`
  const relay = (rest: string) => `---\nkind: relay\nname: mx\n${rest}\n`
  const policy = (name: string, networks: string) =>
    `---\nkind: policy\nname: ${name}\nnetworks: [${networks}]\n`
  const cases: [string, string, string[]][] = [
    [
      'two that say the same: the later',
      exemption('a', 'sources: [10.0.0.1]') + exemption('b', 'sources: [10.0.0.1]'),
      ['shadowed-exemption 11:10'],
    ],
    [
      'wider',
      exemption('a', 'sources: [10.0.0.1]') + exemption('b', 'sources: [10.0.0.0/24]'),
      ['shadowed-exemption 7:10'],
    ],
    [
      'halves that make a whole',
      exemption('a', 'sources: [10.0.0.0/24]') + exemption('b', 'sources: [10.0.0.0/25, 10.0.0.128/25]'),
      ['shadowed-exemption 11:10'],
    ],
    [
      'half of it is not all',
      exemption('a', 'sources: [10.0.0.0/24]') +
        exemption('b', 'sources: [10.0.0.0/25]').replace('kind', '# \nkind'),
      ['shadowed-exemption 12:10'],
    ],
    [
      'to fewer places',
      exemption('a', 'sources: [10.0.0.1]\ndestinations: [203.0.113.0/24]') +
        exemption('b', 'sources: [10.0.0.1]'),
      ['shadowed-exemption 7:10'],
    ],
    [
      'to other places',
      exemption('a', 'sources: [10.0.0.1]\ndestinations: [203.0.113.0/24]') +
        exemption('b', 'sources: [10.0.0.1]\ndestinations: [198.51.100.0/24]'),
      [],
    ],
    [
      'a rate covers nobody',
      exemption('a', 'sources: [10.0.0.0/24]\nrate: 1/day') + exemption('b', 'sources: [10.0.0.1]'),
      [],
    ],
    [
      'one that ends covers nobody who stays',
      exemption('a', 'sources: [10.0.0.0/24]\nexpires: 2027-01-01T00:00:00Z') +
        exemption('b', 'sources: [10.0.0.1]'),
      [],
    ],
    [
      'but who ends before',
      exemption('a', 'sources: [10.0.0.0/24]\nexpires: 2027-01-01T00:00:00Z') +
        exemption('b', 'sources: [10.0.0.1]\nexpires: 2026-12-01T00:00:00Z'),
      ['shadowed-exemption 12:10'],
    ],
    [
      'IPv6',
      exemption('a', 'sources: ["2001:db8:1::/48"]') + exemption('b', 'sources: ["2001:db8:1::9"]'),
      ['shadowed-exemption 11:10'],
    ],
    [
      'a relay needs no exemption',
      relay('addresses: [192.0.2.0/24]') + exemption('e', 'sources: [192.0.2.7]'),
      ['shadowed-exemption 11:10', 'useless-exemption 11:10'],
    ],
    [
      'families that never meet',
      exemption('e', 'sources: [10.0.0.1]\ndestinations: ["2001:db8::/32"]'),
      ['useless-exemption 7:10'],
    ],
    [
      'longer networks have all of it',
      policy('a', '10.0.0.0/9, 10.128.0.0/9') + policy('b', '"2001:db8::/33", "2001:db8:8000::/33"'),
      ['shadowed-policy 3:11'],
    ],
    [
      'all but one address',
      policy('a', '10.0.0.0/9, 10.128.0.0/10, 10.192.0.0/11') +
        policy('b', '"2001:db8::/32"').replace('/32', '/33'),
      [],
    ],
    [
      'a relay has all of it',
      relay('addresses: [10.9.0.0/16]') + policy('p', '10.9.8.0/24'),
      ['governed-relay 7:13', 'shadowed-policy 11:11'],
    ],
    [
      'clients of another family',
      relay('addresses: [192.0.2.1]\nclients: ["2001:db8::/48"]'),
      ['unreachable-relay 8:10'],
    ],
    [
      'clients whom nobody governs',
      relay('addresses: [192.0.2.1]\nclients: [192.168.0.0/16]'),
      ['unreachable-relay 8:10'],
    ],
    ['one client is enough', relay('addresses: [192.0.2.1]\nclients: [192.168.0.0/16, 10.1.1.1]'), []],
    [
      'connections sent to it do arrive',
      relay('addresses: [192.0.2.1]\nclients: [192.168.0.0/16]') +
        policy('p', '10.9.0.0/16').trimEnd() +
        '\naction: redirect\nredirect_to: mx\n',
      [],
    ],
    ['the relay among its clients', relay('addresses: [192.0.2.1, 10.0.0.25]'), ['governed-relay 7:24']],
  ]
  for (const [what, documents, expected] of cases) {
    const { diagnostics } = await load(t, pool + documents)
    t.same(places(diagnostics), expected, what)
  }
  t.test('with a policy missing nobody knows who is governed', async (t) => {
    const broken = `${pool}mod: x\n${exemption('e', 'sources: [10.0.0.1]')}${relay('addresses: [192.0.2.1]\nclients: [10.0.0.0/8]')}`
    t.same(places((await load(t, broken)).diagnostics), ['unknown-key 4:1'])
  })
  t.test('a list counts as what is in it, and is found where it is named', async (t) => {
    const { diagnostics } = await load(t, {
      'p.yaml': `${pool}${policy('all', '"@l"')}---\nkind: list\nname: l\nfile: l.txt\n`,
      'l.txt': '10.0.0.0/9\n10.128.0.0/9\n2001:db8::/33\n2001:db8:8000::/33\n',
    })
    t.same(places(diagnostics), ['shadowed-policy 3:11'])
  })
  t.test('ten thousand exemptions for one machine', async (t) => {
    const many = Array.from({ length: 10_000 }, (_, i) =>
      exemption(`e${i}`, `sources: [10.0.0.1]\ndestinations: [203.0.${i >> 8}.${i & 255}]`),
    ).join('')
    t.same((await load(t, pool + many)).diagnostics, [])
  })
})

t.test('a load after a load takes files as they were, but for the overlay', async (t) => {
  const document = (name: string) => `kind: exemption\nname: ${name}\nsources: [100.64.0.7]\n`
  const root = await directory(t, {
    'a.yaml': document('a'),
    'c.yaml': document('c'),
    'd.yaml': document('d'),
  })
  const before = await loadPolicies(root, { now: NOW })
  const overlay = new Map([
    ['b.yaml', document('b')],
    ['c.yaml', document('c2')],
    ['d.yaml', null],
    ['list.txt', '# no document'],
  ])
  const names = async (first?: typeof before) =>
    (await loadPolicies(root, { now: NOW, overlay, before: first })).documents.map(
      ({ document }) => document.name,
    )
  t.same(await names(before), await names())
  await writeFile(join(root, 'a.yaml'), document('edited'))
  t.same(await names(before), ['a', 'b', 'c2'])
  t.same(await names(), ['edited', 'b', 'c2'])
})

t.test('a load with a memory reads what has changed, and nothing else', async (t) => {
  const root = await directory(t, {
    'p.yaml': 'kind: policy\nname: p\nnetworks: ["@l", 10.9.0.0/16]\n',
    'l.yaml': 'kind: list\nname: l\nfile: l.txt\n',
    'l.txt': '10.0.0.0/16\n10.1.0.0/16\n',
    'e.yaml': 'kind: exemption\nname: e\nsources: [10.0.0.1]\n',
  })
  const memory = new LoadMemory(0)
  const again = () => loadPolicies(root, { now: NOW, memory })
  const one = await again()
  const two = await again()
  t.equal(two.lists.get('l'), one.lists.get('l'), 'the same list')
  t.equal(two.model?.policies[0]?.networks, one.model?.policies[0]?.networks, 'and what was made of it')
  t.equal(two.documents[0]?.document, one.documents[0]?.document)
  await writeFile(join(root, 'e.yaml'), 'kind: exemption\nname: e\nsources: [10.0.0.2]\n')
  const three = await again()
  t.equal(three.model?.policies[0]?.networks, one.model?.policies[0]?.networks)
  t.same([...(three.model?.exemptions[0]?.sources ?? [])].map(formatPrefix), ['10.0.0.2'])
  await writeFile(join(root, 'l.txt'), '10.0.0.0/16\nnonsense\n')
  t.same(places((await again()).diagnostics), ['bad-prefix 2:1'])
  t.same(places((await again()).diagnostics), ['bad-prefix 2:1'], 'mistakes are remembered as well')
  await rm(join(root, 'l.txt'))
  t.same(places((await again()).diagnostics), ['unreadable-file 3:7'])
  await writeFile(join(root, 'l.txt'), '10.2.0.0/16\n')
  const overlay = new Map([['l.txt', '10.3.0.0/16\n']])
  const planned = await loadPolicies(root, { now: NOW, memory, overlay })
  t.same([...(planned.lists.get('l') ?? [])].map(formatPrefix), ['10.3.0.0/16'])
  t.same([...((await again()).lists.get('l') ?? [])].map(formatPrefix), ['10.2.0.0/16'])
  await rm(join(root, 'e.yaml'))
  t.equal((await again()).model?.exemptions.length, 0)
})

t.test('hostile files', async (t) => {
  t.test('a loop of links ends', async (t) => {
    const root = await directory(t, { 'a.yaml': 'kind: relay\nname: r\naddresses: [192.0.2.1]\n' })
    await symlink(root, join(root, 'loop'))
    await symlink(join(root, 'b.yaml'), join(root, 'b.yaml'))
    const { diagnostics } = await loadPolicies(root, { now: NOW })
    t.same(
      diagnostics.map(({ file, code }) => `${file} ${code}`),
      ['b.yaml unreadable-file'],
    )
  })
  t.test('deep nesting is an error, not a crash', async (t) => {
    const { diagnostics } = await load(t, `kind: ${'['.repeat(100_000)}`)
    t.ok(diagnostics.length > 0)
  })
  t.test('names of built-in properties are unknown keys', async (t) => {
    const { diagnostics } = await load(
      t,
      'kind: relay\nname: r\naddresses: [192.0.2.1]\n__proto__: {}\nconstructor: 1\n',
    )
    t.same(places(diagnostics), ['unknown-key 4:1', 'unknown-key 5:1'])
  })
  t.test('a kind that is a built-in property is unknown', async (t) => {
    t.same(places((await load(t, 'kind: toString\nname: r\n')).diagnostics), ['unknown-kind 1:7'])
  })
  t.test('a diagnostic stays on its line, whatever was written', async (t) => {
    const { diagnostics } = await load(t, {
      'a.yaml': 'kind: list\nname: l\nfile: "a\\nb.txt"\n---\nkind: policy\nname: p\nnetworks: ["@a\\nb"]\n',
      'b.yaml': 'kind: list\nname: m\nfile: m.txt\n',
      'm.txt': '10.0.0.\u0085x\n\u202e10.0.0.1\n',
    })
    t.same(
      diagnostics.map(({ file, code, line }) => `${file}:${line} ${code}`),
      ['a.yaml:3 bad-path', 'a.yaml:7 bad-name', 'm.txt:1 bad-prefix', 'm.txt:2 bad-prefix'],
    )
    for (const { message } of diagnostics) t.notMatch(message, /[\n\r\x7f-\x9f\u202e]/)
  })
  t.test('mistakes without end are cut short, and hints cost no more than they help', async (t) => {
    const many = `kind: relay\nname: r\naddresses: [${'x, '.repeat(50_000)}x]\n`
    t.ok((await load(t, many)).diagnostics.length <= 1_000)
    const dangling = Array.from(
      { length: 3_000 },
      (_, i) =>
        `kind: list\nname: l${i}\nprefixes: [10.0.0.1]\n---\nkind: relay\nname: r${i}\naddresses: ["@x${i}"]\n`,
    ).join('---\n')
    t.equal((await load(t, dangling)).diagnostics.length, 3_000)
  })
  t.test('pairs are counted over all documents', async (t) => {
    const exemption = (name: string) =>
      `kind: exemption\nname: ${name}\nsources: ["@l"]\ndestinations: ["@l"]\n`
    const { diagnostics } = await load(t, {
      'e.yaml': `${['a', 'b', 'c', 'd', 'e'].map(exemption).join('---\n')}---\nkind: list\nname: l\nfile: l.txt\n`,
      'l.txt': Array.from({ length: 1_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`).join('\n'),
    })
    t.same(places(diagnostics.filter(({ code }) => code === 'too-large')), ['too-large 24:15'])
  })
  t.test('NUL bytes', async (t) => {
    t.same(places((await load(t, 'kind: relay\0\n')).diagnostics), ['bad-encoding 1:1'])
  })
  t.test('whatever the text, an answer and no exception', async (t) => {
    const root = await directory(t, { 'a.yaml': '' })
    const scraps = [
      'kind: ',
      'policy',
      '\n',
      'name: a',
      '- ',
      '[',
      '{',
      '&a ',
      '*a',
      '!!x ',
      '"',
      "'",
      '|',
      '---',
      '?',
      ':',
      '#',
      '%',
    ]
    const text = fc
      .array(fc.oneof(fc.constantFrom(...scraps), fc.string({ maxLength: 4 })))
      .map((parts) => parts.join(''))
    await fc.assert(
      fc.asyncProperty(text, async (yaml) => {
        const { diagnostics, model: found } = await loadPolicies(root, {
          now: NOW,
          overlay: new Map([['a.yaml', yaml]]),
        })
        return found !== null || diagnostics.length > 0
      }),
      { numRuns: 300 },
    )
  })
})

const NETWORK = `
kind: policy
name: residential
networks: [100.64.0.0/10, "2001:db8:100::/40"]
---
kind: policy
name: campus
networks: [100.64.8.0/24, 100.64.8.7]
mode: observe
---
kind: relay
name: mx-out
addresses: [192.0.2.25, 100.64.0.25]
clients: [100.64.0.0/16]
users: [postfix]
---
kind: exemption
name: acme
sources: [100.64.12.7]
destinations: [203.0.113.0/24]
expires: 2026-07-01T00:00:00Z
---
kind: exemption
name: over
sources: [100.64.12.8]
expires: 2026-05-01T00:00:00Z
---
kind: test
name: wishes
expect:
  - { from: 100.64.1.2, to: 203.0.113.9, verdict: block }
  - { from: 8.8.8.8, to: 203.0.113.9, verdict: allow }
  - { from: 100.64.1.2, to: 203.0.113.9, verdict: allow }
`

t.test('a policy is shadowed when it governs no address at all', async () => {
  const prefix = fc
    .tuple(fc.constantFrom(4, 6), fc.nat({ max: 15 }), fc.integer({ min: 0, max: 4 }))
    .map(([family, address, length]) =>
      family === 4
        ? truncate({ family: 4, address: (address << 28) >>> 0, length: 32 }, length)
        : truncate({ family: 6, address: BigInt(address) << 124n, length: 128 }, length),
    )
  const networks = fc.array(prefix, { minLength: 1, maxLength: 5 })
  const origin = { file: 'p.yaml', line: 1, column: 1 }
  const everyAddress = Array.from({ length: 16 }, (_, i): Prefix[] => [
    { family: 4, address: (i << 28) >>> 0, length: 32 },
    { family: 6, address: BigInt(i) << 124n, length: 128 },
  ]).flat()
  fc.assert(
    fc.property(fc.array(networks, { maxLength: 6 }), networks, (all, relays) => {
      const taken = new Set<string>()
      const policies = all.map(
        (own, index): Policy => ({
          kind: 'policy',
          name: `p${index}`,
          origin,
          networks: PrefixSet.of(
            own.filter((one) => !taken.has(formatPrefix(one)) && taken.add(formatPrefix(one))),
          ),
          mode: 'enforce',
          action: 'reject',
          redirect: null,
          thresholds: DEFAULT_THRESHOLDS,
        }),
      )
      const found = shadowedPolicies(
        policies.map((policy) => policy.networks),
        PrefixSet.of(relays),
      )
      const governing = everyAddress
        .filter((address) => !relays.some((relay) => contains(relay, address)))
        .map(
          (address) => governingPolicy({ policies, relays: [], exemptions: [], tests: [] }, address)?.policy,
        )
      const expected = policies.filter((one) => one.networks.size > 0 && !governing.includes(one))
      return expected.length === found.size && expected.every((one) => found.has(policies.indexOf(one)))
    }),
    { numRuns: 2_000 },
  )
})

t.test('the verdict follows its order', async (t) => {
  const m = await model(t, NETWORK)
  const cases: [string, string, string, number?, (string | null)?][] = [
    ['block', '100.64.1.2', '203.0.113.9'],
    ['block', '2001:db8:1ff:ffff::9', '2001:db8:ffff::9'],
    ['ungoverned', '2001:db8:200::1', '2001:db8:ffff::9'],
    ['ungoverned', '100.128.0.0', '203.0.113.9'],
    ['block', '100.127.255.255', '203.0.113.9'],
    ['allow', '100.64.1.2', '203.0.113.9', 587],
    ['allow', '100.64.1.2', '203.0.113.9', 465],
    ['allow', '100.64.0.25', '203.0.113.9'],
    ['allow', '100.64.1.2', '192.0.2.25'],
    ['block', '100.65.1.2', '192.0.2.25'],
    ['allow', '100.64.12.7', '203.0.113.9'],
    ['block', '100.64.12.7', '198.51.100.9'],
    ['block', '100.64.12.8', '203.0.113.9'],
    ['observe', '100.64.8.7', '203.0.113.9'],
    ['observe', '100.64.8.0', '203.0.113.9'],
    ['observe', '100.64.8.255', '203.0.113.9'],
    ['block', '100.64.9.0', '203.0.113.9'],
    ['allow', '100.64.1.2', '203.0.113.9', 25, 'postfix'],
    ['block', '100.64.1.2', '203.0.113.9', 25, 'root'],
  ]
  for (const [expected, source, destination, port = 25, user = null] of cases) {
    t.equal(
      verdict(m, source, destination, port, user),
      expected,
      `${source} to ${destination}:${port} by ${user}`,
    )
  }
})

t.test('explain names the document, its place, and an exemption that has lapsed', async (t) => {
  const m = await model(t, NETWORK)
  const of = (source: string) =>
    explain(m, { source: ip(source), destination: ip('203.0.113.9'), port: 25 }, NOW)
  t.same(of('100.64.1.2').document, { kind: 'policy', name: 'residential', file: 'p.yaml', line: 2 })
  t.match(of('100.64.12.8').reason, /over \(p\.yaml:23\).*2026-05-01/)
  t.match(of('100.64.12.7').document, { kind: 'exemption', name: 'acme' })
  t.equal(of('8.8.8.8').document, null)
})

t.test('policy tests: to let through is to allow', async (t) => {
  const results = runPolicyTests(await model(t, NETWORK), NOW)
  t.same(
    results.map(({ passed }) => passed),
    [true, true, false],
  )
  t.match(results[2]?.expectation.origin, { file: 'p.yaml', line: 33, column: 5 })
})

t.test('the published schema agrees with the check on everything that a schema can say', async (t) => {
  const ajv = new Ajv2020({ allErrors: true, strict: true, strictTypes: false, strictRequired: false })
  const validate = ajv.compile(policyJsonSchema())
  const beyond = new Set<DiagnosticCode>([
    'host-bits',
    'bad-prefix',
    'bad-path',
    'duplicate-name',
    'duplicate-prefix',
    'conflicting-rates',
    'dangling-list',
    'dangling-relay',
    'redirect-target',
    'list-source',
    'too-large',
    'unreadable-file',
    'file-too-large',
    'bad-encoding',
    'yaml-syntax',
    'too-complex',
    'duplicate-key',
    'expired-exemption',
    'useless-exemption',
    'shadowed-exemption',
    'shadowed-policy',
    'unreachable-relay',
    'governed-relay',
    'everyone-governed',
  ])
  for (const { value } of parseYaml('p.yaml', NETWORK).documents)
    t.ok(validate(value), JSON.stringify(validate.errors))
  for (const [code, files] of Object.entries(CAUSES)) {
    if (beyond.has(code as DiagnosticCode)) continue
    const [document] = parseYaml('a.yaml', String(files['a.yaml'])).documents
    t.notOk(validate(document?.value), code)
  }
})

t.test('a model is frozen, and a single list is shared rather than copied', async (t) => {
  const m = await model(
    t,
    'kind: list\nname: l\nprefixes: [10.0.0.0/8]\n---\nkind: policy\nname: a\nnetworks: ["@l"]\n---\n' +
      'kind: exemption\nname: e\nsources: ["@l"]\n',
  )
  t.ok(Object.isFrozen(m) && Object.isFrozen(m.policies) && Object.isFrozen(m.policies[0]?.networks))
  t.equal(m.policies[0]?.networks, m.exemptions[0]?.sources)
})

t.test('edits leave every other document and comment alone', async (t) => {
  const text =
    '# top\nkind: list\nname: a # first\nprefixes: [10.0.0.0/8]\n---\n# about b\nkind: relay\nname: b\naddresses: [192.0.2.1]\n'
  const [a, b] = parseYaml('f.yaml', text).documents
  if (a === undefined || b === undefined) throw new Error('two documents')
  const replaced = replaceDocument(text, b.span, { kind: 'relay', name: 'b', addresses: ['192.0.2.2'] })
  t.match(replaced, /^# top\nkind: list\nname: a # first\n/)
  t.match(replaced, /# about b\nkind: relay/)
  t.same(
    parseYaml('f.yaml', replaced).documents.map(({ value }) => (value as { name: string }).name),
    ['a', 'b'],
  )
  t.same(parseYaml('f.yaml', replaced).documents[1]?.value, {
    kind: 'relay',
    name: 'b',
    addresses: ['192.0.2.2'],
  })
  const rest = removeDocument(text, a.span)
  t.same(
    parseYaml('f.yaml', rest ?? '').documents.map(({ value }) => (value as { name: string }).name),
    ['b'],
  )
  const single = '# alone\nkind: list\nname: a\nprefixes: [10.0.0.0/8]\n'
  t.equal(removeDocument(single, parseYaml('f', single).documents[0]?.span ?? a.span), null)
})

t.test('edits keep the layout that a document has', async (t) => {
  const relay = { kind: 'relay' as const, name: 'a', addresses: ['192.0.2.1', '192.0.2.2'] }
  const edit = (text: string, more: object = {}) => {
    const [document] = parseYaml('f', text).documents
    if (document === undefined) throw new Error('a document')
    const edited = replaceDocument(text, document.span, { ...relay, ...more })
    t.strictSame(parseYaml('f', edited).documents[0]?.value, { ...relay, ...more }, edited)
    return edited
  }
  t.equal(
    edit('kind: relay # k\r\nname: a\r\naddresses:\r\n  - 192.0.2.1 # one\r\n# end\r\n'),
    'kind: relay # k\r\nname: a\r\naddresses:\r\n  - 192.0.2.1 # one\r\n  - 192.0.2.2\r\n# end\r\n',
    'lines end as they did',
  )
  const clients = ['192.0.2.0/24']
  t.equal(
    edit('kind: relay\nname: a # ours\nclients: &c [192.0.2.0/24] # all\naddresses: [192.0.2.1]\n', {
      clients,
    }),
    'kind: relay\nname: a # ours\nclients: &c [192.0.2.0/24] # all\naddresses: [192.0.2.1, 192.0.2.2]\n',
    'an anchor elsewhere costs nothing',
  )
  t.equal(
    edit('kind: relay\nname: a # ours\naddresses: &x\n  - 192.0.2.1 # one\n'),
    'kind: relay\nname: a # ours\naddresses: &x\n  - 192.0.2.1 # one\n  - 192.0.2.2\n',
    'nor does one on what changes',
  )
  const named = 'kind: relay\nname: a # ours\naddresses: &x [192.0.2.1]\nclients: *x\n'
  t.match(
    edit(named, { clients: ['192.0.2.1'] }),
    /clients:\s+- 192\.0\.2\.1\n/,
    'what has its alias stays as it was',
  )
  t.notMatch(edit(named), /clients/, 'or goes')
  t.equal(
    edit('{kind: relay, name: a, addresses: [192.0.2.1]} # short\n'),
    '{kind: relay, name: a, addresses: [192.0.2.1, 192.0.2.2]} # short\n',
    'on one line',
  )
})

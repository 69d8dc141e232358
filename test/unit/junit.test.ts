/** JUnit reports, as a strict XML parser that is not ours reads them. */
import { readdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { renderJunit, type TestRun } from '../../src/commands/junit.ts'
import { runProcess } from '../../src/kernel/process.ts'
import { diagnostic } from '../../src/policy/diagnostic.ts'
import { directory, egress25 } from './support.ts'

interface Element {
  readonly tag: string
  readonly attributes: Readonly<Record<string, string>>
  readonly text: string
  readonly children: readonly Element[]
}

/** Expat, by way of Python: it refuses whatever XML 1.0 does not allow. */
const READER = `
import json, sys, xml.etree.ElementTree as tree
def plain(one):
    return {'tag': one.tag, 'attributes': one.attrib, 'text': one.text or '', 'children': [plain(c) for c in one]}
print(json.dumps(plain(tree.fromstring(sys.stdin.buffer.read()))))
`

async function parse(xml: string): Promise<Element> {
  const { code, stdout, stderr } = await runProcess(['python3', '-c', READER], {
    timeout: 60_000,
    input: xml,
  })
  if (code !== 0) throw new Error(`this is no XML: ${stderr}\n${xml}`)
  return JSON.parse(stdout) as Element
}

const TOTALS = ['tests', 'failures', 'errors'] as const

/** What the schemas of JUnit reports ask for, as far as they agree: names, counts that add up, times. */
function isReport(t: Test, root: Element): void {
  t.equal(root.tag, 'testsuites')
  const count = (of: Element, total: (typeof TOTALS)[number]) => Number(of.attributes[total])
  for (const total of TOTALS) {
    t.equal(
      count(root, total),
      root.children.reduce((sum, suite) => sum + count(suite, total), 0),
      total,
    )
  }
  for (const suite of root.children) {
    t.equal(suite.tag, 'testsuite')
    t.match(suite.attributes, {
      name: /./,
      skipped: '0',
      time: /^\d+\.\d+$/,
      timestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/,
    })
    const faults = (tag: string) =>
      suite.children.filter(({ children }) => children.some((one) => one.tag === tag))
    t.equal(count(suite, 'tests'), suite.children.length)
    t.equal(count(suite, 'failures'), faults('failure').length)
    t.equal(count(suite, 'errors'), faults('error').length)
    const odd = suite.children.filter(
      ({ tag, attributes, children }) =>
        tag !== 'testcase' ||
        attributes['classname'] !== `egress25.${suite.attributes['name']}` ||
        !(attributes['name'] && attributes['file']) ||
        !/^\d+ \d+\.\d+$/.test(`${attributes['line']} ${attributes['time']}`) ||
        children.length > 1 ||
        children.some((fault) => !(fault.attributes['message'] && fault.attributes['type'] && fault.text)),
    )
    t.same(odd, [], 'every case is whole')
    const names = suite.children.map(({ attributes }) => attributes['name'])
    t.equal(new Set(names).size, names.length, 'no two cases have one name')
  }
}

const POLICIES = `kind: policy
name: p
networks: [10.0.0.0/8]
---
kind: test
name: first
expect:
  - { from: 10.0.0.1, to: 203.0.113.9, verdict: block }
  - { from: 10.0.0.1, to: 203.0.113.9, verdict: observe }
  - { from: 10.0.0.1, to: 203.0.113.9, verdict: observe }
---
kind: test
name: second
expect:
  - { from: 10.0.0.1, to: 203.0.113.9, port: 587, verdict: allow }
  - { from: 10.0.0.1, to: 203.0.113.9, user: postfix, verdict: block }
`

t.test('the command', { jobs: 2 }, async (t) => {
  const root = await directory(t, {
    'good/a.yaml': POLICIES,
    'bad/b.yaml': 'kind: policy\nname: p\nnetworks: [10.0.0.1/8]\nmod: "<&\'>"\n',
    'warned/w.yaml': 'kind: exemption\nname: e\nsources: [10.0.0.1]\nexpires: 2020-01-01T00:00:00Z\n',
    'there.xml': 'old',
  })
  await symlink('there.xml', join(root, 'link.xml'))

  t.test('a suite for each document, a case for each expectation', async (t) => {
    t.match(await egress25(['test', 'good', '--junit', 'there.xml'], { cwd: root }), {
      code: 1,
      out: /3 passed, 2 failed\n$/,
    })
    const report = await parse(await readFile(join(root, 'there.xml'), 'utf8'))
    isReport(t, report)
    t.match(report.attributes, { tests: '5', failures: '2', errors: '0' })
    t.match(report.children, [
      {
        attributes: { name: 'first', tests: '3' },
        children: [
          {
            attributes: { name: '10.0.0.1 to 203.0.113.9 port 25: block', file: 'good/a.yaml', line: '8' },
            children: [],
          },
          {
            attributes: { name: '10.0.0.1 to 203.0.113.9 port 25: observe', line: '9' },
            children: [
              {
                tag: 'failure',
                attributes: { type: 'verdict', message: /^must be observe, but blocked by policy p/ },
                text: /^good\/a\.yaml:9:5: 10\.0\.0\.1 to .*: observe, but blocked by policy p/,
              },
            ],
          },
          {
            attributes: { name: '10.0.0.1 to 203.0.113.9 port 25: observe (2)' },
            children: [{ tag: 'failure' }],
          },
        ],
      },
      {
        attributes: { name: 'second', tests: '2', failures: '0' },
        children: [{}, { attributes: { name: 'user postfix at 10.0.0.1 to 203.0.113.9 port 25: block' } }],
      },
    ])
    t.notOk(
      (await readdir(root)).some((name) => name.endsWith('.new')),
      'nothing is left beside it',
    )
  })

  t.test('what keeps the directory from being read, as errors', async (t) => {
    t.match(await egress25(['test', 'bad', '--json', '--junit', 'bad.xml'], { cwd: root }), {
      code: 1,
      out: /host-bits/,
    })
    const report = await parse(await readFile(join(root, 'bad.xml'), 'utf8'))
    isReport(t, report)
    t.match(report.attributes, { tests: '2', failures: '0', errors: '2' })
    t.match(report.children[0]?.children, [
      {
        attributes: { name: 'b.yaml:3:12: host-bits', file: 'bad/b.yaml', line: '3' },
        children: [
          {
            tag: 'error',
            attributes: { type: 'host-bits', message: /10\.0\.0\.0\/8/ },
            text: /^bad\/b\.yaml:3:12: host-bits: /,
          },
        ],
      },
      { attributes: { line: '4' }, children: [{ attributes: { type: 'unknown-key' } }] },
    ])
  })

  t.test('warnings keep nothing from being read', async (t) => {
    t.match(await egress25(['test', 'warned', '--junit', 'warned.xml'], { cwd: root }), {
      code: 0,
      err: /expired-exemption/,
    })
    const report = await parse(await readFile(join(root, 'warned.xml'), 'utf8'))
    isReport(t, report)
    t.match(report, { attributes: { tests: '0', errors: '0' }, children: [] })
  })

  t.test('a place where no report can be is a mistake of usage, and nothing is run', async (t) => {
    for (const file of ['none/report.xml', '/dev/null', 'link.xml']) {
      t.match(
        await egress25(['test', 'good', '--junit', file], { cwd: root }),
        { code: 2, out: '', err: /^egress25: [^\n]+\n$/ },
        file,
      )
    }
    t.notOk((await readFile('/dev/null', 'utf8')) !== '', '/dev/null is what it was')
  })
})

t.test('whatever stands in a file name or a message, it is XML', async (t) => {
  const everything = Array.from({ length: 0x3000 }, (_, code) => String.fromCharCode(code)).join('')
  const hostile = [
    everything,
    '\ud800 \udc00 a\udfff\ud83d\ude00 \ufffe\uffff',
    ']]></error><testcase name="x"/>',
    '"&amp;&#0;\'<!--',
    '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>&y;',
  ]
  const run: TestRun = {
    directory: 'policies',
    startedAt: Date.parse('2026-06-01T12:00:00.500Z'),
    milliseconds: 12.5,
    errors: hostile.map((text, index) =>
      diagnostic({ file: `${text}/${index}`, line: 1, column: 1 }, 'bad-value', text),
    ),
    results: [],
  }
  const report = await parse(renderJunit(run))
  isReport(t, report)
  t.equal(report.attributes['errors'], '5')
  t.match(report.children[0]?.attributes, { timestamp: '2026-06-01T12:00:00', time: '0.012500' })
  const messages =
    report.children[0]?.children.map(({ children }) => children[0]?.attributes['message'] ?? '') ?? []
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must have gone
  t.equal(messages[0], everything.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '\ufffd'))
  t.equal(messages[1], '\ufffd \ufffd a\ufffd\u{1f600} \ufffd\ufffd', 'and its neighbours stay')
  t.same(messages.slice(2), hostile.slice(2))
})

t.test('a flood of mistakes does not drown CI', async (t) => {
  const errors = Array.from({ length: 5_000 }, (_, line) =>
    diagnostic({ file: 'a.yaml', line, column: 1 }, 'bad-prefix', 'x'),
  )
  const report = await parse(
    renderJunit({ directory: '.', startedAt: 0, milliseconds: 1, errors, results: [] }),
  )
  isReport(t, report)
  t.equal(report.attributes['errors'], '1001')
  t.match(report.children[0]?.children.at(-1)?.children[0]?.attributes, { message: /^4000 more/ })
})

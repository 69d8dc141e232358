/**
 * What nobody would write by accident: an answer with a code, in bounded time and memory, and never an exception.
 * Times are generous, because the machine may be busy; without the bounds these texts take minutes or all memory.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { parseConfig } from '../../src/config/config.ts'
import { YAML_LIMITS } from '../../src/policy/bounded-yaml.ts'
import { DIAGNOSTIC_CODES, type Diagnostic, formatDiagnostic } from '../../src/policy/diagnostic.ts'
import { LIMITS } from '../../src/policy/files.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { parseYaml } from '../../src/policy/yaml-source.ts'
import './seed.ts'

const PATIENCE = 60_000

/** Characters of a bomb: a small part of what a file may have is plenty. */
const BOMB = LIMITS.yamlBytes / 32

async function directory(test: Test): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'egress25-hostile-'))
  test.teardown(() => rm(root, { recursive: true, force: true, maxRetries: 9 }))
  return root
}

/** A line that a terminal shows as it is, and that is one line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
const TAME = /^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\p{Cs}]{1,1000}$/u

function areTame(t: Test, diagnostics: readonly Diagnostic[], what: string): void {
  const wild = diagnostics.filter(
    (one) => !TAME.test(formatDiagnostic(one)) || !(one.code in DIAGNOSTIC_CODES),
  )
  t.same(wild, [], `${what}: each diagnostic is one line that a terminal can show`)
}

/** Loads and answers the codes, each once. */
async function codes(
  t: Test,
  root: string,
  what: string,
  overlay?: ReadonlyMap<string, string>,
): Promise<string[]> {
  const started = performance.now()
  const { model, diagnostics } = await loadPolicies(root, { now: 0, ...(overlay && { overlay }) })
  t.ok(performance.now() - started < PATIENCE, `${what}: at once`)
  areTame(t, diagnostics, what)
  t.equal(
    model === null,
    diagnostics.some(({ severity }) => severity === 'error'),
    `${what}: no model with errors`,
  )
  return [...new Set(diagnostics.map(({ code }) => code))].sort()
}

const fill = (piece: string, before = '', after = '') =>
  before + piece.repeat(Math.floor((BOMB - before.length - after.length) / piece.length)) + after
const lines = (count: number, line: (n: number) => string) =>
  Array.from({ length: count }, (_, n) => line(n)).join('')
const POLICY = 'kind: policy\nname: p\nnetworks: [10.0.0.0/8]\n'

/** Large texts, and the only code they may be answered with. */
const BOMBS: Readonly<Record<string, [code: keyof typeof DIAGNOSTIC_CODES, text: () => string]>> = {
  'open brackets': ['too-complex', () => fill('[')],
  'open braces': ['too-complex', () => fill('{a: ')],
  'closed brackets': ['yaml-syntax', () => fill(']')],
  'a sequence in a sequence in a sequence': ['too-complex', () => fill('- ')],
  'a mapping in a mapping in a mapping': ['too-complex', () => lines(500, (n) => `${' '.repeat(n)}a:\n`)],
  'keys of keys': ['too-complex', () => fill('? ')],
  'values without keys': ['too-complex', () => fill(':\n')],
  commas: ['yaml-syntax', () => fill(',', 'a: [', ']')],
  'many keys': ['too-complex', () => lines(10_000, (n) => `k${n}:\n`)],
  'many keys in braces': ['too-complex', () => `{${lines(10_000, (n) => `k${n},`)}}`],
  'many unknown keys': ['too-complex', () => POLICY + lines(10_000, (n) => `netwo${n}:\n`)],
  'one key many times': ['too-complex', () => fill('k:\n')],
  'mappings as keys': ['too-complex', () => fill('? {a: b}\n: c\n')],
  'a long sequence': [
    'too-complex',
    () => `kind: policy\nname: p\nnetworks: [${'x,'.repeat(YAML_LIMITS.items)}x]`,
  ],
  anchors: ['too-complex', () => fill('&a ')],
  aliases: ['too-complex', () => fill('- *a\n', '- &a x\n')],
  'aliases of nothing': ['too-complex', () => fill('- *a\n')],
  tags: ['too-complex', () => fill('- !!js/function x\n')],
  'a billion laughs': [
    'too-complex',
    () => `a0: &a0 [x]\n${lines(30, (n) => `a${n + 1}: &a${n + 1} [${`*a${n},`.repeat(10)}]\n`)}`,
  ],
  'merge keys': [
    'too-complex',
    () => `a0: &a0 {x: 1}\n${lines(30, (n) => `a${n + 1}: &a${n + 1} {<<: [${`*a${n},`.repeat(10)}]}\n`)}`,
  ],
  'stray quotes': ['yaml-syntax', () => fill('"')],
  'bad escapes': ['yaml-syntax', () => fill('\\q', '"', '"')],
  'bad directives': ['yaml-syntax', () => fill('%x\n')],
  'a huge text': ['not-a-document', () => fill('x')],
  'a huge name': ['bad-length', () => fill('x', 'kind: policy\nname: ', '\nnetworks: [10.0.0.0/8]\n')],
  'a huge number': ['wrong-type', () => fill('9', 'kind: policy\nnetworks: [10.0.0.0/8]\nname: ')],
  'a huge time': [
    'bad-length',
    () => fill('0', 'kind: exemption\nname: e\nsources: [10.0.0.1]\nexpires: 2035-12-31T00:00:00.', 'Q'),
  ],
  'a huge key': ['yaml-syntax', () => fill('k', POLICY, ': x\n')],
  'a text that does not end': ['yaml-syntax', () => fill('x', `${POLICY}"`)],
}

t.test('YAML bombs', async (t) => {
  const root = await directory(t)
  for (const [name, [code, text]] of Object.entries(BOMBS)) {
    const found = await codes(t, root, name, new Map([['a.yaml', text()]]))
    t.same(found, [code], name)
  }
})

t.test('many documents in one file', async (t) => {
  const count = YAML_LIMITS.documents
  const { documents, diagnostics } = parseYaml('a.yaml', 'a\n---\n'.repeat(count + 5))
  t.equal(documents.length, count)
  t.match(diagnostics, [{ code: 'too-complex', line: Number }])
})

t.test('a hundred mistakes tell enough', async (t) => {
  t.equal(parseYaml('a.yaml', '- "\\q"\n'.repeat(900)).diagnostics.length, YAML_LIMITS.faults)
  t.equal(parseYaml('a.yaml', '] \n'.repeat(900)).diagnostics.length, YAML_LIMITS.faults)
})

t.test('mistakes that belong to no document are mistakes', async (t) => {
  for (const text of [']', '%BAD', '}\n', '%YAML 1.2\n# nothing\n%x y\n']) {
    t.match(parseYaml('a.yaml', text).diagnostics[0], { code: 'yaml-syntax', line: Number }, text)
  }
  for (const text of ['', '# nothing\n', '---\n', '---\n---\n# nothing\n...\n', '\ufeff']) {
    t.same(parseYaml('a.yaml', text), { documents: [], diagnostics: [] }, JSON.stringify(text))
  }
})

/** Odd texts of a few lines, and what they are answered with; none: they are sound. */
const ODD: Readonly<Record<string, [expected: readonly string[], text: string | Uint8Array]>> = {
  'a byte order mark': [[], `\ufeff${POLICY}`],
  'Windows line ends': [[], POLICY.replaceAll('\n', '\r\n')],
  'old Macintosh line ends': [
    ['bad-encoding', 'not-a-document', 'yaml-syntax'],
    POLICY.replaceAll('\n', '\r'),
  ],
  'UTF-16': [['bad-encoding'], Buffer.from(`\ufeff${POLICY}`, 'utf16le')],
  'half a character': [['bad-encoding'], Buffer.from([...Buffer.from(POLICY), 0xf0, 0x9f])],
  'an encoded surrogate': [
    ['bad-encoding'],
    Buffer.from([...Buffer.from(`${POLICY}description: `), 0xed, 0xa0, 0x80]),
  ],
  'tabs for indentation': [['yaml-syntax'], 'kind: policy\nname: p\nnetworks:\n\t- 10.0.0.0/8\n'],
  'an escape sequence': [['bad-encoding'], `${POLICY}description: \u001b[31mred\n`],
  'an escape sequence in a comment': [['bad-encoding'], `${POLICY}# \u009b2J\n`],
  'an escape sequence, escaped': [['bad-text'], `${POLICY}description: "\\x1b[31mred"\n`],
  'a control character for terminals of eight bits, escaped': [
    ['bad-text'],
    `${POLICY}description: "\\x9b31m"\n`,
  ],
  'a lone surrogate, escaped': [['bad-text'], `${POLICY}description: "\\uD800"\n`],
  'an escape sequence in a key': [['bad-text'], `${POLICY}"\\x1b]0;": 1\n`],
  'an escape sequence in a reference': [['bad-text'], 'kind: policy\nname: p\nnetworks: ["@a\\e[31m"]\n'],
  'the other direction of writing': [['bad-encoding'], `${POLICY}description: \u202eevil\n`],
  'the other direction of writing, escaped': [['bad-text'], `${POLICY}description: "\\u202Eevil"\n`],
  'the other direction of writing in a name': [['bad-encoding'], POLICY.replace('p\n', 'p\u2066\n')],
  'people who write otherwise': [[], `${POLICY}description: "שלום नमस्ते 👩‍💻 \\n\\t"\n`],
  'letters that look alike': [['bad-name'], POLICY.replace('name: p', 'name: р')],
  'a tag of JavaScript': [['yaml-syntax'], `${POLICY}description: !!js/function 'function () { }'\n`],
  'a tag of Python': [['yaml-syntax'], `${POLICY}description: !!python/object/apply:os.system [id]\n`],
  'a mapping as a key': [['yaml-syntax'], `${POLICY}? { a: b }\n: c\n`],
  'a number as a key': [['unknown-key'], `${POLICY}1: 2\n`],
  'nothing as a key': [['unknown-key'], `${POLICY}? \n: 2\n`],
  'a merge key': [['unknown-key'], `${POLICY}<<: { mode: observe }\n`],
  'a document that holds itself': [
    ['bad-length', 'wrong-type'],
    '&a\nkind: policy\nname: *a\nnetworks: []\n',
  ],
  'numbers beyond numbers': [
    ['bad-prefix', 'wrong-type'],
    'kind: policy\nname: p\nnetworks: [1e400, -.inf, .nan, 0x1g, 010]\n',
  ],
  'too large a number': [['wrong-type'], `${POLICY}detection: { ipv6_prefix: 1e400 }\n`],
  'almost a whole number': [['bad-value'], `${POLICY}detection: { ipv6_prefix: 9007199254740993 }\n`],
  'the prototype': [
    ['unknown-key'],
    `${POLICY}__proto__: { mode: observe }\nconstructor: { prototype: {} }\n`,
  ],
  'the prototype, nested': [['unknown-key'], `${POLICY}detection: { __proto__: { attempts: 1 } }\n`],
  'an alias of nothing': [['yaml-syntax'], `${POLICY}description: *nobody\n`],
  'an older YAML': [['wrong-type'], `%YAML 1.1\n---\n${POLICY}detection: { ipv6_prefix: yes }\n`],
}

t.test('odd texts', async (t) => {
  for (const [name, [expected, text]] of Object.entries(ODD)) {
    const root = await directory(t)
    writeFileSync(join(root, 'a.yaml'), text)
    const found = await codes(t, root, name)
    if (expected.length > 1 && found.length > 0)
      t.same(
        found.filter((code) => !expected.includes(code)),
        [],
        `${name}: ${found}`,
      )
    else t.same(found, expected, name)
  }
  t.equal(({} as { mode?: string }).mode, undefined, 'no prototype was touched')
})

t.test('large files', async (t) => {
  t.test('a YAML file of 100 MB is not read', async (t) => {
    const root = await directory(t)
    writeFileSync(join(root, 'a.yaml'), '')
    truncateSync(join(root, 'a.yaml'), 100_000_000)
    const before = process.memoryUsage().arrayBuffers
    t.same(await codes(t, root, '100 MB'), ['file-too-large'])
    t.ok(process.memoryUsage().arrayBuffers - before < 10_000_000)
  })
  t.test('a list of 100 MB is read', async (t) => {
    const root = await directory(t)
    // Long comments: how long the prefixes of a list take is measured elsewhere.
    writeFileSync(join(root, 'l.txt'), `10.0.0.1\n${`# ${'x'.repeat(998)}\n`.repeat(100_000)}10.0.0.2\n`)
    writeFileSync(join(root, 'a.yaml'), 'kind: list\nname: l\nfile: l.txt\n')
    t.same(await codes(t, root, '100 MB'), [])
    t.same((await loadPolicies(root, { now: 0 })).lists.get('l')?.size, 2)
    truncateSync(join(root, 'l.txt'), LIMITS.listBytes + 1)
    t.same(await codes(t, root, 'more'), ['file-too-large'])
  })
  t.test('a list of 2,000,000 bad lines says enough', async (t) => {
    const root = await directory(t)
    writeFileSync(join(root, 'a.yaml'), 'kind: list\nname: l\nfile: l.txt\n')
    writeFileSync(join(root, 'l.txt'), 'nonsense\n'.repeat(2_000_000))
    t.same(await codes(t, root, '2,000,000'), ['bad-prefix'])
    const { diagnostics } = await loadPolicies(root, { now: 0 })
    t.ok(diagnostics.length <= 100)
    writeFileSync(join(root, 'l.txt'), 'x'.repeat(50_000_000))
    t.same(await codes(t, root, 'one line'), ['bad-prefix'])
    writeFileSync(join(root, 'l.txt'), '\u001b[31mred\r\u001b]0;title\u0007\n"quoted"\u202e\u009b\n')
    const wild = (await loadPolicies(root, { now: 0 })).diagnostics
    t.ok(wild.length === 2 && wild.every((one) => !formatDiagnostic(one).includes('\u001b')))
  })
  t.test('a directory of 100,001 files', async (t) => {
    // So many would keep a disk busy, and Node.js when it makes and removes them itself.
    const root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'egress25-hostile-'))
    t.teardown(() => void execFileSync('rm', ['-rf', root]))
    execFileSync('sh', ['-c', `seq -f %.0f.yaml 0 ${LIMITS.files} | xargs touch`], { cwd: root })
    t.same(await codes(t, root, 'files'), ['file-too-large'])
  })
  t.test('a path of a hundred folders', async (t) => {
    const root = await directory(t)
    mkdirSync(join(root, ...Array<string>(100).fill('d')), { recursive: true })
    t.same(await codes(t, root, 'folders'), ['too-complex'])
  })
})

t.test('files that are none', async (t) => {
  const root = await directory(t)
  const outside = await directory(t)
  writeFileSync(join(outside, 'secret.txt'), 'root:x:0:0\n')
  writeFileSync(join(outside, 'policy.yaml'), POLICY)
  const list = (name: string, file: string) => `kind: list\nname: ${name}\nfile: ${file}\n---\n`

  t.test('pipes, devices, /proc and loops', async (t) => {
    execFileSync('mkfifo', [join(root, 'pipe.yaml'), join(root, 'pipe.txt')])
    symlinkSync('/dev/zero', join(root, 'zero.yaml'))
    symlinkSync('/dev/zero', join(root, 'zero.txt'))
    symlinkSync('/proc/self/environ', join(root, 'proc.txt'))
    symlinkSync('/proc/self/mem', join(root, 'mem.yaml'))
    symlinkSync('loop.yaml', join(root, 'loop.yaml'))
    symlinkSync('.', join(root, 'itself'))
    symlinkSync('..', join(root, 'above'))
    mkdirSync(join(root, 'folder.yaml'))
    mkdirSync(join(root, 'folder.txt'))
    const names = ['pipe', 'zero', 'proc', 'folder']
    writeFileSync(join(root, 'a.yaml'), names.map((name) => list(name, `${name}.txt`)).join(''))
    t.same(await codes(t, root, 'no files'), ['unreadable-file'])
    const { diagnostics } = await loadPolicies(root, { now: 0 })
    t.same(
      diagnostics.map(({ file, line }) => `${file}:${line}`),
      [
        'a.yaml:3',
        'a.yaml:7',
        'a.yaml:11',
        'a.yaml:15',
        'loop.yaml:1',
        'mem.yaml:1',
        'pipe.yaml:1',
        'zero.yaml:1',
      ],
    )
  })

  t.test('links lead to files within the directory, not out of it', async (t) => {
    const inner = await directory(t)
    mkdirSync(join(inner, '.data/now'), { recursive: true })
    writeFileSync(join(inner, '.data/now/p.yaml'), POLICY)
    writeFileSync(join(inner, '.data/now/l.txt'), '10.0.0.1\n')
    // As Kubernetes mounts a ConfigMap.
    symlinkSync('.data/now/p.yaml', join(inner, 'p.yaml'))
    symlinkSync('.data/now/l.txt', join(inner, 'l.txt'))
    writeFileSync(join(inner, 'l.yaml'), list('l', 'l.txt'))
    t.same(await codes(t, inner, 'within'), [])
    const link = `${outside}/link`
    symlinkSync(inner, link)
    t.same(await codes(t, link, 'the directory itself may be a link'), [])

    symlinkSync(join(outside, 'policy.yaml'), join(inner, 'out.yaml'))
    symlinkSync(join(outside, 'secret.txt'), join(inner, 'out.txt'))
    symlinkSync(outside, join(inner, 'folder'))
    writeFileSync(
      join(inner, 'm.yaml'),
      list('m', 'out.txt') + list('n', 'folder/secret.txt') + list('o', 'p.yaml/../../x'),
    )
    const { model, diagnostics } = await loadPolicies(inner, { now: 0 })
    t.equal(model, null)
    t.same(
      diagnostics.map(({ file, line, code }) => `${file}:${line} ${code}`),
      [
        'm.yaml:3 unreadable-file',
        'm.yaml:7 unreadable-file',
        'm.yaml:11 bad-path',
        'out.yaml:1 unreadable-file',
      ],
    )
    t.notMatch(JSON.stringify(diagnostics), /root:|x:0/, 'and nothing is told of what stands there')
    // A name that begins like the directory's is not within it.
    const twin = `${inner}-twin`
    mkdirSync(twin)
    t.teardown(() => rm(twin, { recursive: true, force: true, maxRetries: 9 }))
    writeFileSync(join(twin, 'x.txt'), 'secret\n')
    symlinkSync(join(twin, 'x.txt'), join(inner, 'twin.txt'))
    writeFileSync(join(inner, 'm.yaml'), list('m', 'twin.txt'))
    t.notMatch(JSON.stringify((await loadPolicies(inner, { now: 0 })).diagnostics), /"secret/)
  })

  t.test('what may not be read', async (t) => {
    const closed = await directory(t)
    mkdirSync(join(closed, 'folder'))
    writeFileSync(join(closed, 'a.yaml'), POLICY)
    chmodSync(closed, 0o755)
    for (const name of ['folder', 'a.yaml']) chmodSync(join(closed, name), 0)
    // Root may read everything.
    const isRoot = process.geteuid?.() === 0
    if (isRoot) process.seteuid?.(65_534)
    try {
      t.same(await codes(t, closed, 'closed'), ['unreadable-file'])
      const { diagnostics } = await loadPolicies(closed, { now: 0 })
      t.equal(diagnostics.length, 2)
      for (const { message } of diagnostics) t.match(message, `to the user ${userInfo().username}`)
      if (isRoot) process.seteuid?.(0)
      chmodSync(closed, 0)
      if (isRoot) process.seteuid?.(65_534)
      await t.rejects(loadPolicies(closed, { now: 0 }), { message: /the policy directory/ })
    } finally {
      if (isRoot) process.seteuid?.(0)
    }
    chmodSync(closed, 0o755)
    for (const name of ['folder', 'a.yaml']) chmodSync(join(closed, name), 0o700)
    await t.rejects(loadPolicies(join(closed, 'a.yaml'), { now: 0 }), {
      name: 'Error',
      message: /not a directory/,
    })
  })

  t.test('names of files', async (t) => {
    const named = await directory(t)
    const harmless = [
      'a b.yaml',
      '"q".yaml',
      ';x.yaml',
      '{y}.yaml',
      '$(id).yaml',
      '`id`.yaml',
      "'.yaml",
      'ü.yaml',
      '-r.yaml',
      '👩‍.yml',
    ]
    for (const name of harmless) writeFileSync(join(named, name), '')
    t.same(await codes(t, named, 'harmless'), [])
    const hostile = [
      'a\nb.yaml',
      '\u001b[2J.yaml',
      '\u009b.yaml',
      '\u202elmay.yaml',
      'tab\t.yaml',
      '\r.yaml',
      '\u2028.yaml',
      'd\u001b]0;',
    ]
    for (const name of hostile.slice(0, -1)) writeFileSync(join(named, name), 'kind: [')
    mkdirSync(join(named, hostile.at(-1) ?? ''))
    writeFileSync(join(named, hostile.at(-1) ?? '', 'c.yaml'), 'kind: [')
    writeFileSync(
      Buffer.concat([Buffer.from(`${named}/`), Buffer.from([0xff, 0xfe]), Buffer.from('.yaml')]),
      POLICY,
    )
    t.same(await codes(t, named, 'hostile'), ['unreadable-file'])
    t.equal((await loadPolicies(named, { now: 0 })).diagnostics.length, hostile.length + 1)
  })
})

t.test('whatever the bytes, an answer', async (t) => {
  const root = await directory(t)
  const odd = fc.constantFrom(
    '\u001b',
    '\u009b',
    '\u202e',
    '\ud800',
    '\r',
    '\t',
    '\\x1b',
    '"',
    "'",
    '|\n ',
    '&a ',
    '*a ',
    '---\n',
    '? ',
    ': ',
    '[',
    '{',
    '%',
    '!!js ',
    'kind: list\n',
    'name: ',
    'file: ',
    '@',
    '<<: ',
  )
  const text = fc
    .array(fc.oneof(odd, fc.string({ unit: 'binary', maxLength: 6 })), { maxLength: 30 })
    .map((parts) => parts.join(''))
  await fc.assert(
    fc.asyncProperty(text, async (yaml) => {
      const { model, diagnostics } = await loadPolicies(root, {
        now: 0,
        overlay: new Map([['a.yaml', yaml]]),
      })
      return (
        diagnostics.every((one) => TAME.test(formatDiagnostic(one))) &&
        (model !== null || diagnostics.length > 0)
      )
    }),
    { numRuns: 150 },
  )
})

t.test('a hostile gateway configuration is refused as well', async (t) => {
  for (const text of [
    fill('['),
    fill('k:\n'),
    '\u001b[31m',
    '&a [*a]',
    '? {a: b}\n: c\n',
    '__proto__: 1\n',
    'gateway: "\\x1b"\n',
  ]) {
    t.throws(() => parseConfig('c.yaml', text), /has mistakes/, text.slice(0, 20))
  }
})

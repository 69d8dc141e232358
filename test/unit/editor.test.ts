/** What an editor makes of the published schema: shown with the language server that editors use for YAML. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t from 'tap'
import type { TSchema } from 'typebox'
import { runProcess } from '../../src/kernel/process.ts'
import { policyJsonSchema } from '../../src/policy/json-schema.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { DOCUMENT_SCHEMAS, KINDS, type Kind } from '../../src/policy/schema.ts'
import { checkShape } from '../../src/policy/shape.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const POLICIES = join(ROOT, 'policies')
const SERVER = join(ROOT, 'node_modules/yaml-language-server/bin/yaml-language-server')

interface Place {
  readonly line: number
  readonly character: number
}

interface Finding {
  readonly range: { readonly start: Place; readonly end: Place }
  readonly message: string
}

interface Completion {
  readonly label: string
  readonly insertText?: string
  readonly documentation?: unknown
}

/** The few messages of the language server protocol that an editor sends while somebody types. */
class Editor {
  readonly #server: ChildProcess
  readonly #answers = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  readonly #findings = new Map<string, (found: readonly Finding[]) => void>()
  #received = Buffer.alloc(0)
  #sent = 0

  constructor() {
    // Without what tap has every Node.js load.
    const argv = ['-u', 'NODE_OPTIONS', process.execPath, SERVER, '--stdio']
    this.#server = spawn('env', argv, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#server.stdout?.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#read()
    })
    this.#server.on('exit', () => {
      for (const { reject } of this.#answers.values()) reject(new Error('the language server ended'))
    })
  }

  async start(): Promise<void> {
    await this.#request('initialize', { processId: process.pid, rootUri: null, capabilities: {} })
    this.#send({ method: 'initialized', params: {} })
  }

  /** Opens a document that need not be on the disk, and answers what is underlined in it. */
  open(path: string, text: string): Promise<readonly Finding[]> {
    const uri = pathToFileURL(path).href
    const found = new Promise<readonly Finding[]>((resolve) => this.#findings.set(uri, resolve))
    this.#send({
      method: 'textDocument/didOpen',
      params: { textDocument: { uri, languageId: 'yaml', version: 1, text } },
    })
    return found
  }

  async complete(path: string, position: Place): Promise<readonly Completion[]> {
    const textDocument = { uri: pathToFileURL(path).href }
    const answer = (await this.#request('textDocument/completion', { textDocument, position })) as {
      items: Completion[]
    }
    return answer.items
  }

  async hover(path: string, position: Place): Promise<string> {
    const textDocument = { uri: pathToFileURL(path).href }
    return JSON.stringify(await this.#request('textDocument/hover', { textDocument, position }))
  }

  async close(): Promise<void> {
    if (this.#server.exitCode !== null) return
    const exit = once(this.#server, 'exit')
    this.#server.kill('SIGKILL')
    await exit
  }

  #request(method: string, params: object): Promise<unknown> {
    const id = ++this.#sent
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { resolve, reject })
      this.#send({ id, method, params })
    })
  }

  #send(message: object): void {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message })
    this.#server.stdin?.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  }

  #read(): void {
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n')
      const length = Number(
        /Content-Length: (\d+)/.exec(this.#received.toString('latin1', 0, Math.max(end, 0)))?.[1],
      )
      if (end < 0 || this.#received.length < end + 4 + length) return
      const body = this.#received.toString('utf8', end + 4, end + 4 + length)
      this.#received = this.#received.subarray(end + 4 + length)
      this.#take(JSON.parse(body) as Message)
    }
  }

  #take({ id, method, params, result, error }: Message): void {
    if (method === 'textDocument/publishDiagnostics') {
      const { uri, diagnostics } = params as { uri: string; diagnostics: Finding[] }
      this.#findings.get(uri)?.(diagnostics)
    } else if (method === 'workspace/configuration') {
      // As an editor is that was just installed, but for its catalogue of schemas on the internet.
      const settings: Record<string, unknown> = {
        yaml: { validate: true, completion: true, hover: true, schemaStore: { enable: false } },
      }
      const { items } = params as { items: { section?: string }[] }
      this.#send({ id, result: items.map(({ section = '' }) => settings[section] ?? null) })
    } else if (method !== undefined) {
      if (id !== undefined) this.#send({ id, result: null })
    } else if (id !== undefined) {
      const waiting = this.#answers.get(id)
      this.#answers.delete(id)
      if (error === undefined) waiting?.resolve(result)
      else waiting?.reject(new Error(JSON.stringify(error)))
    }
  }
}

interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: unknown
  readonly result?: unknown
  readonly error?: unknown
}

const editor = new Editor()
const MODELINE = '# yaml-language-server: $schema=policy.schema.json\n'

let documents = 0

/** Opens a document with the modeline; `|` in it is where somebody types. */
function open(text: string) {
  const whole = MODELINE + text
  const path = join(POLICIES, `unsaved-${documents++}.yaml`)
  const before = whole.split('|')[0]?.split('\n') ?? []
  const findings = editor.open(path, whole.replace('|', ''))
  return { path, findings, cursor: { line: before.length - 1, character: before.at(-1)?.length ?? 0 } }
}

async function completions(text: string): Promise<ReadonlyMap<string, Completion>> {
  const { path, cursor } = open(text)
  return new Map((await editor.complete(path, cursor)).map((one) => [one.label, one]))
}

/** `line:character-character message`; the modeline is line 0. */
async function underlined(text: string): Promise<string[]> {
  const findings = await open(text).findings
  return findings.map(({ range: { start, end }, message }) => {
    const to = start.line === end.line ? end.character : `${end.line}:${end.character}`
    return `${start.line}:${start.character}-${to} ${message}`
  })
}

t.test('with the language server', async (t) => {
  t.teardown(() => editor.close())
  await editor.start()

  t.test(
    'it says nothing about the example policies, and it has looked at each of their documents',
    async (t) => {
      const names = (await readdir(POLICIES, { recursive: true })).filter((name) => name.endsWith('.yaml'))
      t.ok(names.length >= 5)
      const looks = names.map(async (name) => {
        const path = join(POLICIES, name)
        const text = await readFile(path, 'utf8')
        const schema = relative(dirname(path), join(POLICIES, 'policy.schema.json'))
        t.equal(text.split('\n')[0], `# yaml-language-server: $schema=${schema}`, name)
        t.same(await editor.open(path, text), [], name)
        const spoilt = text.replaceAll(/^kind:/gm, 'strange: 1\nkind:')
        const found = await editor.open(`${path}.yaml`, spoilt)
        t.same(
          found.map(({ message }) => message),
          (text.match(/^kind:/gm) ?? []).map(() => 'Property strange is not allowed.'),
          name,
        )
      })
      await Promise.all(looks)
    },
  )

  t.test('it completes the kinds, and the keys of the kind that is written', async (t) => {
    t.match((await completions('|')).get('kind')?.insertText, /^kind: /)
    t.same([...(await completions('kind: |')).keys()], KINDS)
    for (const kind of KINDS) {
      const { properties } = DOCUMENT_SCHEMAS[kind]
      const offered = await completions(`kind: ${kind}\nname: n\n|`)
      const missing = Object.keys(properties).filter((key) => !offered.has(key))
      t.same(missing, ['kind', 'name'], kind)
      const strange = KINDS.flatMap((other) => Object.keys(DOCUMENT_SCHEMAS[other].properties)).filter(
        (key) => offered.has(key) && !(key in properties),
      )
      t.same(strange, [], kind)
    }
    t.match((await completions('kind: policy\nname: p\nnetw|')).get('networks'), {
      insertText: /^networks:\n {2}- /,
      documentation: /whom it governs/,
    })
    t.match(
      (await completions('kind: relay\nname: r\n|')).get('addresses')?.insertText,
      /^addresses:\n {2}- /,
    )
    const nested = await completions('kind: policy\nname: p\nnetworks: [10.0.0.0/8]\ndetection:\n  |')
    t.ok(nested.has('spam_bot') && nested.has('ipv6_prefix') && !nested.has('mode'))
    const entry = await completions('kind: test\nname: t\nexpect:\n  - |')
    t.ok(entry.has('from') && entry.has('verdict'))
  })

  t.test('it offers values, and says what each means', async (t) => {
    const modes = await completions('kind: policy\nname: p\nnetworks: [10.0.0.0/8]\nmode: |\n')
    t.same([...modes.keys()], ['enforce', 'observe'])
    t.match(JSON.stringify(modes.get('observe')), /let through/)
    const verdicts = await completions('kind: test\nname: t\nexpect:\n  - from: 10.0.0.1\n    verdict: |\n')
    t.same([...verdicts.keys()], ['allow', 'block', 'redirect', 'observe', 'ungoverned'])
    const { path, cursor } = open('kind: exemption\nname: e\nsources: [10.0.0.1]\nra|te: 1/day\n')
    t.match(await editor.hover(path, cursor), /Rate.*new connections per source/)
  })

  t.test('it underlines what is wrong, and nothing else', async (t) => {
    const cases: [text: string, ...RegExp[]][] = [
      ['kind: policy\nname: p\nnetworks: [10.0.0.0/8]\nmod: x\n', /^4:0-3 .*mod is not allowed/],
      ['kind: relay\nname: Mx_1\naddresses: [192.0.2.1]\n', /^2:6-10 .*pattern/],
      ['kind: relay\nname: mx\naddresses:\n  - 192.0.2.1\n  - nonsense!\n', /^5:4-13 .*pattern/],
      ['kind: policy\nname: p\nnetworks: [10.0.0.0/8]\nmode: enforced\n', /^4:6-14 .*"enforce" \| "observe"/],
      ['kind: polcy\nname: x\n', /^1:6-11 .*"policy" \| "relay"/],
      ['kind: exemption\nname: x\n', /^1:0-\d+ .*sources/],
      [
        'kind: test\nname: t\nexpect: [{ from: 10.0.0.1, to: 10.0.0.2, verdict: blocked }]\n',
        /^3:50-57 .*"block"/,
      ],
      ['kind: relay\nname: mx\naddresses: [192.0.2.1, "2001:db8::/32", "@list"]\n'],
      ['kind: exemption\nname: e\nsources: [10.0.0.1]\nrate: 30/minute\nexpires: 2035-12-31T00:00:00Z\n'],
    ]
    const looks = cases.map(async ([text, ...expected]) => {
      const found = await underlined(text)
      t.match(found, expected, text)
      t.equal(found.length, expected.length, text)
    })
    await Promise.all(looks)
  })
})

t.test('the published schema is the one that the command prints', async (t) => {
  const { code, stdout } = await runProcess([join(ROOT, 'scripts/egress25'), 'schema'], { timeout: 60_000 })
  t.equal(code, 0)
  const published = await readFile(join(POLICIES, 'policy.schema.json'), 'utf8')
  t.ok(published === stdout, 'else: scripts/egress25 schema > policies/policy.schema.json')
})

interface Schema {
  readonly title?: string
  readonly description?: string
  readonly default?: unknown
  readonly examples?: readonly unknown[]
  readonly oneOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
}

const published = policyJsonSchema() as {
  allOf: { if: { properties: { kind: { const: Kind } } }; then: Schema }[]
}

/** Every schema within one, and its counterpart in what `check` uses. */
function* walk(
  schema: Schema,
  checked: Schema,
  path: string,
): Generator<{ path: string; schema: Schema; checked: Schema }> {
  yield { path, schema, checked }
  for (const [key, field] of Object.entries(schema.properties ?? {})) {
    yield* walk(field, checked.properties?.[key] ?? {}, `${path}/${key}`)
  }
  if (schema.items !== undefined) yield* walk(schema.items, checked.items ?? {}, `${path}[]`)
}

t.test('every field is explained', async (t) => {
  t.same(
    published.allOf.map((branch) => branch.if.properties.kind.const),
    KINDS,
  )
  for (const { if: condition, then } of published.allOf) {
    const kind = condition.properties.kind.const
    for (const { path, schema, checked } of walk(then, DOCUMENT_SCHEMAS[kind] as Schema, kind)) {
      t.match(schema, { title: /^[A-Z]/, description: /./ }, path)
      t.ok(
        (schema.oneOf ?? []).every(({ description }) => description),
        `${path}: and each of its values`,
      )
      for (const value of [
        ...(schema.examples ?? []),
        ...(schema.default === undefined ? [] : [schema.default]),
      ]) {
        t.same(checkShape(checked as TSchema, value), [], `${path}: ${JSON.stringify(value)} is sound`)
      }
    }
  }
})

/** The smallest sound document of each kind. */
const LEAST: Readonly<Record<Kind, object>> = {
  policy: { networks: ['10.0.0.0/8'] },
  relay: { addresses: ['192.0.2.1'] },
  exemption: { sources: ['10.0.0.1'] },
  list: { prefixes: ['10.0.0.0/8'] },
  test: { expect: [{ from: '10.0.0.1', to: '192.0.2.1', verdict: 'block' }] },
}

t.test('a default is what holds when the field is absent', async (t) => {
  const modelOf = async (document: object) => {
    const overlay = new Map([['a.yaml', JSON.stringify(document)]])
    const { model, diagnostics } = await loadPolicies(import.meta.dirname, { now: 0, overlay })
    t.ok(model, JSON.stringify(diagnostics))
    const plain = (key: string, value: unknown) =>
      key === 'origin' ? undefined : typeof value === 'bigint' ? `${value}` : value
    return JSON.stringify(model, plain)
  }
  let defaults = 0
  for (const { if: condition, then } of published.allOf) {
    const kind = condition.properties.kind.const
    const least = { kind, name: 'n', ...LEAST[kind] }
    for (const { path, schema } of walk(then, {}, '')) {
      if (schema.default === undefined) continue
      defaults++
      const document = structuredClone(least)
      let at = document as Record<string, unknown>
      const keys = path.slice(1).replaceAll('[]', '/0').split('/')
      for (const key of keys.slice(0, -1)) {
        at[key] ??= {}
        at = at[key] as Record<string, unknown>
      }
      at[keys.at(-1) ?? ''] = schema.default
      t.equal(await modelOf(document), await modelOf(least), `${kind}${path}`)
    }
  }
  t.ok(defaults >= 10)
})

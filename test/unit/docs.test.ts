/** What the documents say is true: their examples run, their tables are complete, their links lead somewhere. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import { parseConfig } from '../../src/config/config.ts'
import { DIAGNOSTIC_CODES } from '../../src/policy/diagnostic.ts'
import { policyJsonSchema } from '../../src/policy/json-schema.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { runPolicyTests } from '../../src/policy/policy-tests.ts'
import { egress25 } from './support.ts'
import { bodyFault } from './webhook-schema.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const NOW = Date.parse('2026-11-23T00:00:00Z')

const pages = async () => {
  const names = [
    'README.md',
    ...(await readdir(join(ROOT, 'docs')))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `docs/${name}`),
  ]
  return Promise.all(names.map(async (name) => ({ name, text: await readFile(join(ROOT, name), 'utf8') })))
}

t.test('every YAML example is sound', async (t) => {
  const empty = await mkdtemp(join(tmpdir(), 'egress25-docs-'))
  t.teardown(() => rm(empty, { recursive: true, force: true, maxRetries: 9 }))
  let examples = 0
  for (const { name, text } of await pages()) {
    for (const [, yaml = ''] of text.matchAll(/```yaml\n([\s\S]*?)```/g)) {
      examples++
      const first = yaml.split('\n')[0]
      if (!/^kind:/m.test(yaml)) {
        t.doesNotThrow(() => parseConfig(name, yaml), `${name}: ${first}`)
        continue
      }
      const { model, diagnostics } = await loadPolicies(empty, {
        now: NOW,
        overlay: new Map([['example.yaml', yaml]]),
      })
      t.same(
        diagnostics.filter(({ severity }) => severity === 'error'),
        [],
        `${name}: ${first}`,
      )
      // An example with tests and policies together must pass its own.
      if (model !== null && model.policies.length > 0) {
        t.same(
          runPolicyTests(model, NOW).filter(({ passed }) => !passed),
          [],
          name,
        )
      }
    }
  }
  t.ok(examples >= 6)
})

t.test('the policy reference names every code', async (t) => {
  const text = await readFile(join(ROOT, 'docs/policies.md'), 'utf8')
  for (const [code, meaning] of Object.entries(DIAGNOSTIC_CODES))
    t.ok(text.includes(`| \`${code}\` | ${meaning} |`), code)
})

interface Field {
  readonly required: boolean
  /** As the table writes it, without backticks; null: none. */
  readonly default: string | null
}

interface Schema {
  readonly default?: unknown
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
}

/** All fields of a schema by their dotted names; those of a sequence's entries after the sequence's own. */
function fieldsOf(schema: Schema, path = ''): [string, Field][] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, field]) => {
    const name = `${path}${key}`
    const required = schema.required?.includes(key) ?? false
    // A mapping's default is those of its fields.
    const whole = field.properties === undefined && field.default !== undefined
    const one: [string, Field] = [name, { required, default: whole ? String(field.default) : null }]
    return [one, ...fieldsOf(field, `${name}.`), ...fieldsOf(field.items ?? {}, `${name}.`)]
  })
}

/** The fields that the tables of a section name, several in one row where their meaning is one. */
function tableFields(section: string): [string, Field][] {
  return [
    ...section.matchAll(/^\| field(?: of (?:an entry of )?`(\w+)`)? \|.*\n\|[-|]+\n((?:\|.*\n)+)/gm),
  ].flatMap(([, of, rows = '']) =>
    rows.split('\n').flatMap((row) => {
      const [, names = '', , value = ''] = row.split(/(?<!\\)\|/).map((cell) => cell.trim())
      const values = value.replaceAll('`', '').split(', ')
      let parent = ''
      return [...names.matchAll(/`([^`]+)`/g)].map(([, written = ''], index): [string, Field] => {
        // `.window` after `spam_bot.attempts` is spam_bot's as well.
        const name = written.startsWith('.') ? parent + written : written
        parent = name.split('.').slice(0, -1).join('.')
        const said = values.length > 1 ? values[index] : value.replaceAll('`', '')
        // `everyone` and the like are words; what could be written into a file is not.
        const literal = /`|\d/.test(value) ? (said ?? null) : null
        return [
          `${of === undefined ? '' : `${of}.`}${name}`,
          { required: value === 'required', default: literal },
        ]
      })
    }),
  )
}

t.test('the tables of the policy reference are those of the schema', async (t) => {
  const text = await readFile(join(ROOT, 'docs/policies.md'), 'utf8')
  const { allOf } = policyJsonSchema() as {
    allOf: { if: { properties: { kind: { const: string } } }; then: Schema }[]
  }
  t.equal(allOf.length, 5)
  for (const { if: condition, then } of allOf) {
    const kind = condition.properties.kind.const
    const section = new RegExp(`^## ${kind}\n([\\s\\S]*?)^## `, 'm').exec(text)?.[1] ?? ''
    const byName = ([a]: [string, Field], [b]: [string, Field]) => (a < b ? -1 : 1)
    // These stand at the top of the page, for all kinds; and what holds only other fields has no row.
    const fields = fieldsOf(then)
    const hasRow = (name: string) =>
      !['kind', 'name'].includes(name) &&
      !(name.includes('.') && fields.some(([other]) => other.startsWith(`${name}.`)))
    const expected = fields.filter(([name]) => hasRow(name))
    t.same(tableFields(section).sort(byName), expected.sort(byName), kind)
    const example = /```yaml\n([\s\S]*?)```/.exec(section)?.[1] ?? ''
    t.match(example, new RegExp(`^kind: ${kind}$`, 'm'), `${kind} has an example`)
  }
})

t.test('every link within the project leads somewhere', async (t) => {
  for (const { name, text } of await pages()) {
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)) {
      t.ok(existsSync(join(ROOT, normalize(join(dirname(name), target)))), `${name}: ${target}`)
    }
  }
})

t.test('files that the architecture names are there', async (t) => {
  const text = await readFile(join(ROOT, 'docs/architecture.md'), 'utf8')
  const named = [...text.matchAll(/`([a-z-]+\/[a-z0-9/-]+\.(?:ts|py))`/g)].map(([, path = '']) => path)
  const missing = named.filter((path) => !['.', 'src'].some((folder) => existsSync(join(ROOT, folder, path))))
  t.ok(named.length > 30)
  t.same(missing, [])
})

t.test('a folder imports only from those above it in the architecture', async (t) => {
  const text = await readFile(join(ROOT, 'docs/architecture.md'), 'utf8')
  const order = [...text.matchAll(/^\| `src\/([a-z]+)\/` \|/gm)].map(([, name]) => name)
  const files = (await readdir(join(ROOT, 'src'), { recursive: true })).filter((path) => /\.tsx?$/.test(path))
  const [folders, beside] = [
    files.filter((path) => path.includes('/')),
    files.filter((path) => !path.includes('/')),
  ]
  t.same([...new Set(folders.map(folderOf))].sort(), [...order].sort(), 'each has its row')
  const wrong: string[] = []
  for (const path of [...folders, ...beside.filter((path) => !/^(cli|serve)\.ts$/.test(path))]) {
    const own = order.indexOf(folderOf(path))
    for (const [, to = ''] of (await readFile(join(ROOT, 'src', path), 'utf8')).matchAll(
      / from '(\.[^']+)'/g,
    )) {
      const imported = normalize(join(dirname(path), to))
      if (imported.startsWith('..')) continue
      const isFine = imported.includes('/')
        ? folderOf(imported) === folderOf(path) ||
          (own === -1 ? folderOf(imported) === 'policy' : order.indexOf(folderOf(imported)) < own)
        : !/^(cli|serve)\.ts$/.test(imported)
      if (!isFine) wrong.push(`${path} imports ${imported}`)
    }
  }
  t.same(wrong, [])
})

/** Of a path in src. */
function folderOf(path: string): string | undefined {
  return path.split('/')[0]
}

/** What is typed on a line that shows a command: from `egress25` to where the shell would end it. */
function commandLines(text: string): string[] {
  const shown = [
    ...[...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = '']) =>
      block.replaceAll(/\\\n\s*/g, ' ').split('\n'),
    ),
    ...[...text.replaceAll(/```[\s\S]*?```/g, '').matchAll(/`([^`]+)`/g)].map(([, code = '']) =>
      code.replaceAll(/\s+/g, ' '),
    ),
  ]
  return shown.flatMap((line) => {
    const [, typed] = /(?:^|[|&;] *|sudo |scripts\/)egress25 ([a-z-][^#|&;>]*)/.exec(line) ?? []
    return typed === undefined ? [] : [typed.trim()]
  })
}

t.test('every command that is shown is there, with its options', async (t) => {
  const helps = new Map<string, Promise<string>>()
  const help = (words: readonly string[]) => {
    const key = words.join(' ')
    const known = helps.get(key) ?? egress25([...words, '--help']).then(({ out }) => out)
    helps.set(key, known)
    return known
  }
  const subcommands = async (words: readonly string[]) => {
    const [, list = ''] = (await help(words)).split('\nCommands:\n')
    return [...list.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name = '']) => name)
  }
  let seen = 0
  for (const { name, text } of await pages()) {
    for (const line of commandLines(text)) {
      const words = line.split(' ').filter((word) => word !== '')
      const path: string[] = []
      while ((await subcommands(path)).includes(words[path.length] ?? '')) path.push(words[path.length] ?? '')
      t.ok(path.length > 0 || line.startsWith('--'), `${name}: egress25 ${line}`)
      const offered = await help(path)
      for (const option of words.flatMap((word) => /^(--[a-z-]+)/.exec(word)?.[1] ?? []))
        t.match(offered, new RegExp(`${option}(?![a-z-])`), `${name}: egress25 ${line}`)
      seen++
    }
  }
  t.ok(seen >= 60, `${seen} commands`)
})

t.test('every JSON example is JSON, and a message is one that a webhook gets', async (t) => {
  for (const { name, text } of await pages()) {
    for (const [, json = ''] of text.matchAll(/```json\n([\s\S]*?)```/g)) {
      const value: unknown = JSON.parse(json)
      if (typeof value === 'object' && value !== null && 'event' in value)
        t.equal(bodyFault(json), null, name)
    }
  }
})

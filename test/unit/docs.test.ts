/** What the documents say is true: their examples run, their tables are complete, their links lead somewhere. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, normalize } from 'node:path'
import t from 'tap'
import { parseConfig } from '../../src/config.ts'
import { DIAGNOSTIC_CODES } from '../../src/policy/diagnostic.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { runPolicyTests } from '../../src/policy/policy-tests.ts'
import { DOCUMENT_SCHEMAS } from '../../src/policy/schema.ts'

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
  t.teardown(() => rm(empty, { recursive: true, force: true }))
  let examples = 0
  for (const { name, text } of await pages()) {
    for (const [, yaml = ''] of text.matchAll(/```yaml\n([\s\S]*?)```/g)) {
      examples++
      const first = yaml.split('\n')[0]
      if (!/^kind:/m.test(yaml)) {
        t.doesNotThrow(() => parseConfig(name, yaml), `${name}: ${first}`)
        continue
      }
      const { model, diagnostics } = await loadPolicies(empty, { now: NOW, overlay: new Map([['example.yaml', yaml]]) })
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

t.test('the policy reference names every field and every code', async (t) => {
  const text = await readFile(join(ROOT, 'docs/policies.md'), 'utf8')
  for (const [code, meaning] of Object.entries(DIAGNOSTIC_CODES))
    t.ok(text.includes(`| \`${code}\` | ${meaning} |`), code)
  const fields = (schema: { properties?: object; items?: object }): string[] =>
    Object.entries<object>({
      ...schema.properties,
      ...(schema.items as { properties?: object } | undefined)?.properties,
    }).flatMap(([key, value]) => [key, ...fields(value)])
  for (const schema of Object.values(DOCUMENT_SCHEMAS)) {
    for (const field of fields(schema as { properties?: object }))
      t.match(text, new RegExp(`[\`.]${field}\`|\\b${field}:`), field)
  }
})

t.test('every link within the project leads somewhere', async (t) => {
  for (const { name, text } of await pages()) {
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)) {
      t.ok(existsSync(join(ROOT, normalize(join(dirname(name), target)))), `${name}: ${target}`)
    }
  }
})

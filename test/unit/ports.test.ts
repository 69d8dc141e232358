/** No policy can express a block of anything but TCP port 25: shown on what is compiled, whatever was written. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { compile } from '../../src/compile/compile.ts'
import { renderReplacement } from '../../src/compile/nft/replacement.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { directoriesOf, gateways, withEnds } from '../golden/random.ts'
import './seed.ts'

const NOW = Math.floor(Date.now() / 1_000) * 1_000
const folder = await mkdtemp(join(tmpdir(), 'egress25-ports-'))
t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 9 }))

const options = fc.record({
  gateway: gateways,
  nflogGroup: fc.integer({ min: 0, max: 65_535 }),
  priority: fc.integer({ min: -400, max: 400 }),
  trackedSources: fc.integer({ min: 16, max: 4_194_304 }),
  uid: fc.integer({ min: 0, max: 65_534 }),
})

t.test('a packet to another port meets one rule, whatever the policies say', async (t) => {
  let chains = 0
  const directories = directoriesOf({ size: 2, ending: true }).map((one) => withEnds(one, NOW + 60_000))
  await fc.assert(
    fc.asyncProperty(directories, options, async ({ yaml, files }, { gateway, uid, ...rest }) => {
      for (const [path, text] of files) {
        await mkdir(dirname(join(folder, path)), { recursive: true })
        await writeFile(join(folder, path), text)
      }
      const overlay = new Map([['policies.yaml', yaml]])
      const { model, diagnostics } = await loadPolicies(folder, { now: NOW, overlay })
      if (model === null) throw new Error(JSON.stringify(diagnostics))
      const uids = new Map([['daemon', uid]])
      const ruleset = compile(model, { ...DEFAULT_COMPILE_OPTIONS, ...rest, ...gateway, uids })
      const { text } = renderReplacement(ruleset)

      const hooks = ruleset.chains.filter(({ base }) => base !== null)
      chains += hooks.length
      for (const { name, rules } of hooks) {
        if (rules.length !== 1 || rules[0]?.rule !== 'port-25')
          throw new Error(`chain ${name} has other rules`)
        const block = new RegExp(`\\tchain ${name} \\{\\n(.*)\\n\\t\\t(.*)\\n\\t\\}`).exec(text)
        if (!/^\t\ttype (filter|nat) hook \w+ priority -?\d+; policy accept$/.test(block?.[1] ?? ''))
          throw new Error(`chain ${name} is not what it should be:\n${block?.[0]}`)
        if (!/^th dport 25 goto [a-z-]+$/.test(block?.[2] ?? ''))
          throw new Error(`chain ${name} asks for something else: ${block?.[2]}`)
        const next = rules[0].chain
        if (ruleset.chains.find((chain) => chain.name === next)?.rules[0]?.rule !== 'tcp-only')
          throw new Error(`chain ${next} takes other protocols`)
      }
      for (const [match, port] of text.matchAll(
        /\b(?:dport|sport|th(?! dport)|port)\b\s*(?:[!=]=\s*)?([^\s]+)/g,
      )) {
        if (port !== '25') throw new Error(`the script speaks of another port: ${match}`)
      }
      if ((text.match(/\bdport\b/g)?.length ?? 0) !== hooks.length)
        throw new Error('a port is asked for outside of the base chains')
    }),
    { numRuns: 300 },
  )
  t.ok(chains > 300, `${chains} base chains`)
})

/**
 * Applies two rulesets in turn, as fast as it can, until it is killed: `apply-worker STATE_DIRECTORY FILE`. The file has
 * both, as v8.serialize() writes them. It loads what changes the kernel and nothing else, so that it starts quickly.
 */
import { readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { deserialize } from 'node:v8'
import type { Ruleset } from '../../src/compile/ruleset.ts'
import { Enforcer } from '../../src/kernel/enforcer.ts'
import { KernelError } from '../../src/kernel/kernel-error.ts'
import { openNft } from '../../src/kernel/nft.ts'
import { keepReady } from '../../src/kernel/ready-process.ts'

const [, , stateDirectory = '', file = ''] = process.argv
// Whoever started it holds the other ends: when they go, so does it.
process.stdin.on('close', () => process.exit()).resume()
process.stdout.on('error', () => process.exit())

const rulesets = deserialize(readFileSync(file)) as Ruleset[]
const enforcer = new Enforcer(openNft(keepReady()), stateDirectory)
// It is written at the end of a process, which here never comes.
flushCompileCache()
process.stdout.write('ready\n')
for (;;) {
  for (const ruleset of rulesets) {
    await enforcer.apply(ruleset).catch((error: unknown) => {
      // Its nft was killed; the next apply finds out what that has left.
      if (!(error instanceof KernelError)) throw error
    })
  }
}

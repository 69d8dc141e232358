/**
 * Applies two states of the policies in turn, as fast as it can, until it is killed: `apply-worker CONFIG`. Each is a
 * file `a` or `b` beside the policy directory, which becomes its `policy.yaml`.
 */
import { copyFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { openController } from '../../src/commands/apply.ts'
import { readConfig } from '../../src/config.ts'

const [, , file = ''] = process.argv
const config = await readConfig(file)
const controller = openController(config, config.policyDirectory)
for (let round = 0; ; round++) {
  const next = join(config.policyDirectory, 'next')
  await copyFile(join(dirname(file), round % 2 === 0 ? 'a' : 'b'), next)
  await rename(next, join(config.policyDirectory, 'policy.yaml'))
  if (round === 0) process.stdout.write('ready\n')
  await controller.apply()
}

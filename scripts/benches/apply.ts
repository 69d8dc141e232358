// The first apply of a million prefixes, against nft alone.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bareSets } from './bare-sets.ts'
import { egress25 } from './egress25.ts'
import { randomPrefixes, writeList } from './fixtures.ts'
import { openGateway } from './gateway.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, median, ratios, summary } from './rounds.ts'

const ROUNDS = 7
const PREFIXES = 1_000_000

export const apply: Measurement = {
  name: 'apply',
  title: 'First apply of 1,000,000 prefixes',
  about:
    'From a list file of 1,000,000 prefixes of 8 lengths to rules in force, with the file for the next boot written ' +
    'and synced, in a gateway without any rules; against nft loading the same elements into hash sets of its own. The memory is ' +
    'the sum of the largest sizes of all processes, Node and each nft, which they may not have had at the same time.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const directory = join(folder, 'policies')
  const state = join(folder, 'state')
  const config = join(folder, 'egress25.yaml')
  const bare = join(folder, 'bare.nft')
  progress('writing the policies')
  const prefixes = randomPrefixes(PREFIXES)
  mkdirSync(directory, { recursive: true })
  writeList(directory, prefixes)
  writeFileSync(bare, bareSets(prefixes))
  // No service listens there.
  writeFileSync(config, `state: { directory: ${state} }\napi: { listen: ["unix:${folder}/none.sock"] }\n`)
  let peak = 0
  const gateway = await openGateway()
  try {
    progress(`${ROUNDS} rounds`)
    const found = await alternate(ROUNDS, {
      async apply() {
        rmSync(state, { recursive: true, force: true })
        const { seconds, peakBytes, stdout } = await gateway.timed([
          egress25,
          '--config',
          config,
          'apply',
          directory,
        ])
        if (!stdout.includes('applied: the whole table')) throw new Error(`apply said: ${stdout}`)
        peak = Math.max(peak, peakBytes)
        await gateway.clear()
        return seconds
      },
      async nft() {
        const { seconds } = await gateway.timed(['nft', '-f', bare])
        await gateway.clear()
        return seconds
      },
    })
    const command = 'egress25 --config FILE apply DIR'
    return [
      {
        what: 'time until the rules are in force and the boot file is durable',
        command,
        reference: 'nft -f of the same elements into hash sets',
        ...summary(ratios(found.apply, found.nft)),
        unit: '×',
        detail: `${median(found.apply).toFixed(2)} s against ${median(found.nft).toFixed(2)} s`,
        goal: 1.5,
      },
      {
        what: 'memory of all processes',
        command,
        reference: null,
        result: peak / 1e6,
        unit: 'MB',
        spread: null,
        detail: '',
        rounds: ROUNDS,
        goal: 1_000,
      },
    ]
  } finally {
    await gateway.close()
  }
}

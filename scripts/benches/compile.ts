// From a directory of policies to an nft script, against the time that nft then needs for it.
import { join } from 'node:path'
import { compileTo, egress25 } from './egress25.ts'
import { randomPrefixes, writeExemptions, writeList } from './fixtures.ts'
import { openGateway } from './gateway.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, median, ratios, summary } from './rounds.ts'
import { timed } from './timed.ts'

const ROUNDS = 5
const PREFIXES = 1_000_000
const EXEMPTIONS = 10_000

export const compile: Measurement = {
  name: 'compile',
  title: 'From policies to an nft script',
  about:
    'Reading, checking and compiling 10,000 exemptions in YAML and a list of 1,000,000 prefixes of 8 lengths, ' +
    'started anew each time, against the time that nft needs to load the script that comes out. The memory is the ' +
    'largest that the process had.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const layouts = [
    { name: 'each in a file of its own', perFile: 1, directory: join(folder, 'one-a-file') },
    { name: '100 to a file', perFile: 100, directory: join(folder, 'hundred-a-file') },
  ] as const
  progress('writing the policies')
  const prefixes = randomPrefixes(PREFIXES)
  for (const { directory, perFile } of layouts) {
    writeList(directory, prefixes)
    writeExemptions(directory, EXEMPTIONS, perFile)
  }
  const script = join(folder, 'ruleset.nft')
  await compileTo(script, layouts[0].directory)

  const gateway = await openGateway()
  try {
    const peaks = { one: 0, hundred: 0 }
    const run = (key: keyof typeof peaks, directory: string) => async () => {
      const { seconds, peakBytes } = await timed([egress25, 'compile', directory], {
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      peaks[key] = Math.max(peaks[key], peakBytes)
      return seconds
    }
    progress(`${ROUNDS} rounds`)
    const found = await alternate(ROUNDS, {
      one: run('one', layouts[0].directory),
      hundred: run('hundred', layouts[1].directory),
      async nft() {
        const { seconds } = await gateway.timed(['nft', '-f', script])
        await gateway.clear()
        return seconds
      },
    })
    return (['one', 'hundred'] as const).flatMap((key, index): Figure[] => {
      const what = `10,000 exemptions, ${layouts[index]?.name}, and 1,000,000 prefixes`
      const command = 'egress25 compile DIR >/dev/null'
      const detail = `${median(found[key]).toFixed(2)} s against ${median(found.nft).toFixed(2)} s`
      return [
        {
          what: `${what}: time`,
          command,
          reference: 'nft -f of the script that it makes',
          ...summary(ratios(found[key], found.nft)),
          unit: '×',
          detail,
          goal: 3,
        },
        {
          what: `${what}: memory`,
          command,
          reference: null,
          result: peaks[key] / 1e6,
          unit: 'MB',
          spread: null,
          detail: '',
          rounds: ROUNDS,
          goal: 700,
        },
      ]
    })
  } finally {
    await gateway.close()
  }
}

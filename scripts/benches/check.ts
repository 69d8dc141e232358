// Where the time of a check and a compilation goes.
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { egress25 } from './egress25.ts'
import { randomPrefixes, writeExemptions, writeList } from './fixtures.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, summary } from './rounds.ts'
import { type Profile, shares } from './shares.ts'
import { timed } from './timed.ts'

const ROUNDS = 5

export const check: Measurement = {
  name: 'check',
  title: 'Where the time goes',
  about:
    'Checking 10,000 exemptions, each in a file of its own, and a list of 1,000,000 prefixes, in seconds; ' +
    'and the shares of one compilation of them as a profile of it shows them.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const directory = join(folder, 'policies')
  const profiles = join(folder, 'profiles')
  mkdirSync(profiles, { recursive: true })
  progress('writing the policies')
  writeList(directory, randomPrefixes(1_000_000))
  writeExemptions(directory, 10_000, 1)
  progress(`${ROUNDS} rounds, and a profile`)
  const found = await alternate(ROUNDS, {
    check: async () => (await timed([egress25, 'check', directory])).seconds,
  })
  await timed([egress25, 'compile', directory], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profiles}` },
  })
  const [file = ''] = readdirSync(profiles)
  const profile: Profile = JSON.parse(readFileSync(join(profiles, file), 'utf8'))
  const absolute: Figure = {
    what: 'checking all of it',
    command: 'egress25 check DIR',
    reference: null,
    ...summary(found.check),
    unit: 's',
    detail: '',
    goal: null,
  }
  const parts = shares(profile).map(
    ({ phase, share }): Figure => ({
      what: `share: ${phase}`,
      command: 'NODE_OPTIONS=--cpu-prof egress25 compile DIR',
      reference: 'the whole run',
      result: share * 100,
      unit: '%',
      spread: null,
      detail: '',
      rounds: 1,
      goal: null,
    }),
  )
  return [absolute, ...parts]
}

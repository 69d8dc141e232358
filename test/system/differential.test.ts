/**
 * The differential proof: what the reference verdict says is what the kernel does, for random policies and packets; and
 * the proof of the proof: compilers with a mistake are found out. Each run is the same, so that
 * whoever changes something learns of that and of nothing else; with another SEED in the environment there are other
 * policies, with RUNS it is so many times as long; scripts/fuzz goes on for as long as one likes.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { type Arena, openArena } from '../golden/arena.ts'
import { campaign, type Figures } from '../golden/campaign.ts'
import { readCase } from '../golden/cases.ts'
import type { Trial } from '../golden/differential.ts'
import { type Field, openField } from '../golden/field.ts'
import { withoutEnds, writeCase } from '../golden/found.ts'
import { MUTANTS, type Mutant } from '../golden/mutants.ts'
import { replay } from '../golden/replay.ts'
import { shrink } from '../golden/shrink.ts'

const SEED = Number(process.env['SEED'] ?? 25)
const RUNS = Number(process.env['RUNS'] ?? 1)

/** Packets to be judged in one run, and directories after which what has not come by is not waited for any more. */
const PACKETS = 12_000 * RUNS
const MOST_DIRECTORIES = 400 * RUNS

/** What must have been among them, or the run proves less than it says. */
const KINDS = [
  ...['block', 'observe', 'redirect', 'ungoverned', 'exemption', 'beyond-rate', 'not-outbound', 'not-hooked'],
  ...['relay-source', 'relay-user', 'relay-client', 'other-port', 'passes', 'reset', 'dropped'],
  ...['IPv4', 'IPv6', 'forwarded', 'from the gateway', 'directories forward only', 'directories output only'],
  ...['directories ending', 'directories rates', 'directories with policy', 'directories with relay'],
  ...['directories with exemption', 'directories with list', 'directories with list file'],
  ...['directories with test', 'directories with outside interfaces'],
  ...['ended: exemption to block', 'ended: exemption to ungoverned'],
]

function missing(figures: Figures): string[] {
  return KINDS.filter((what) => figures[what] === undefined)
}

/** Directories within which a mistake must be found. */
const DIRECTORIES = 120
/** What is left of the directory then, at most. */
const DOCUMENTS = 4

/** One lab where nobody answers, and one where everybody does. */
interface Ground {
  readonly arena: Arena
  readonly field: Field
}

async function openGround(): Promise<Ground> {
  const arena = await openArena()
  t.teardown(() => arena.close())
  const field = await openField()
  t.teardown(() => field.close())
  return { arena, field }
}

const { arena, field } = await openGround()
const folder = await mkdtemp(join(tmpdir(), 'egress25-differential-'))
t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 9 }))
t.comment(`SEED=${SEED}`)

t.test('the kernel does what decide() says', async (t) => {
  const started = performance.now()
  const { figures, disagreement } = await campaign(arena, {
    seed: SEED,
    isOver: (done) =>
      (done['packets']! >= PACKETS && missing(done).length === 0) || done['directories']! >= MOST_DIRECTORIES,
  })
  const seconds = (performance.now() - started) / 1_000
  t.comment(`${figures['packets']} packets in ${seconds.toFixed(1)} s: ${JSON.stringify(figures)}`)
  if (disagreement !== null) {
    const small = await shrink(arena, disagreement.trial, disagreement.finding)
    t.fail(`they disagree on\n${small.trial.directory.yaml}`, {
      found: small.finding.faults,
      gateway: small.trial.gateway,
      files: [...small.trial.directory.files],
      again: `SEED=${SEED}`,
    })
    return
  }
  t.strictSame(missing(figures), [], 'there was something of every kind')
})

interface Caught {
  readonly directories: number
  readonly trials: number
  readonly trial: Trial
  readonly faults: readonly string[]
  /** What the golden case that was written finds wrong, with the real compiler and with the broken one. */
  readonly differences: readonly [string[], string[]]
}

/** Finds a mistake, makes it small and writes it down; null when it is not found in time. */
async function catchMutant(
  { name, compiler, kind = 'plain' }: Mutant,
  ground: Ground,
): Promise<Caught | null> {
  const { arena, field } = ground
  const { figures, disagreement } = await campaign(arena, {
    seed: SEED,
    kinds: [kind],
    packets: 60,
    compiler,
    isOver: (done) => done['directories']! >= DIRECTORIES,
  })
  if (disagreement === null) return null
  const found = { ...disagreement, trials: 0 }
  // To make small what ends takes a second for every step, and is no different otherwise.
  const small = kind === 'ending' ? found : await shrink(arena, found.trial, found.finding, compiler)
  const fixed = await withoutEnds(arena, small.trial, compiler)
  const written = join(folder, name)
  await writeCase(arena, written, fixed, small.finding.faults)
  const now = Date.now()
  const differences = async (broken?: typeof compiler) => {
    const all = await replay(field, await readCase(name, now, broken, written), now)
    return all.filter(({ found, wanted }) => !isDeepStrictEqual(found, wanted)).map(({ what }) => what)
  }
  return {
    directories: figures['directories'] ?? 0,
    trials: small.trials,
    trial: fixed,
    faults: small.finding.faults,
    differences: kind === 'ending' ? [[], []] : [await differences(), await differences(compiler)],
  }
}

t.test('a compiler with a mistake is found out', async (t) => {
  // Most of the time is the kernel's, which waits for itself: two of them wait together.
  const caught = new Map<Mutant, Caught | null>()
  const queue = MUTANTS.values()
  const grounds = [{ arena, field }, await openGround()]
  await Promise.all(
    grounds.map(async (ground) => {
      for (const mutant of queue) caught.set(mutant, await catchMutant(mutant, ground))
    }),
  )
  for (const mutant of MUTANTS) {
    const { name, kind } = mutant
    t.test(name, async (t) => {
      const one = caught.get(mutant)
      t.ok(one, `is found within ${DIRECTORIES} directories`)
      if (!one) return
      const { documents } = one.trial.directory
      const packets = one.trial.packets.length
      t.comment(
        `found by directory ${one.directories}, shrunk in ${one.trials} trials to ${documents.length} documents and ` +
          `${packets} packets: ${one.faults.slice(0, 3).join('; ')}`,
      )
      // One that is wrong for a moment only cannot be told by a golden case.
      if (kind === 'ending') return
      t.ok(documents.length <= DOCUMENTS, `is shrunk to ${documents.length} documents`, { found: documents })
      t.ok(packets <= (kind === 'rates' ? 10 : 1), `and to ${packets} packets`)
      const [right, wrong] = one.differences
      t.strictSame(right, [], 'its golden case passes with the real compiler')
      // A connection's later packets are no part of a golden case.
      if (one.faults.every((fault) => /later packet/.test(fault))) return
      t.ok(
        wrong.some((what) => !/^compiles to/.test(what)),
        'and fails with the mistake',
        { found: wrong },
      )
    })
  }
})

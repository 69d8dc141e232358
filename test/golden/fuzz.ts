/** The differential check for as long as one likes: what scripts/fuzz runs. Arguments: for how long, and a seed. */
import { join } from 'node:path'
import { parseDuration } from '../../src/policy/formats.ts'
import { openArena } from './arena.ts'
import { campaign, type Disagreement, type Figures } from './campaign.ts'
import { caseNames, FOLDER } from './cases.ts'
import { withoutEnds, writeCase } from './found.ts'
import { shrink } from './shrink.ts'

/** Directories grow up to this many times the size of the first, over the run. */
const LARGEST = 5
const PROGRESS_MS = 10_000

const [time = '10m', seedText = '1'] = process.argv.slice(2)
const duration = parseDuration(time) ?? 600_000
const seed = Number(seedText) % 2 ** 31

const say = (text: string) => process.stdout.write(`${text}\n`)
const started = Date.now()
const passed = () => Date.now() - started

/** The figures of a moment: in all, and what there was of everything. */
function told(figures: Figures): string {
  const { directories = 0, packets = 0, ...rest } = figures
  const seconds = passed() / 1_000
  const each = Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1))
  const lines = each.map(([what, times]) => `  ${what}: ${times}`).join('\n')
  return `${line(figures)}, ${Math.round(packets / seconds)} packets/s, ${Math.round((directories / seconds) * 10) / 10} directories/s\n${lines}`
}

function line({ directories = 0, packets = 0 }: Figures): string {
  return `${Math.round(passed() / 1_000)} s: ${directories} directories, ${packets} packets`
}

/** Makes it small, writes it down, and says how to meet it again. */
async function report({ kind, trial, finding }: Disagreement): Promise<void> {
  say(`they disagree (${kind}); the seed is ${seed}. Making it small …`)
  for (const fault of finding.faults.slice(0, 10)) say(`  ${fault}`)
  const small = await shrink(arena, trial, finding)
  const fixed = await withoutEnds(arena, small.trial)
  const last = (await caseNames()).map((name) => Number.parseInt(name, 10)).filter(Number.isFinite)
  const name = `${String(Math.max(0, ...last) + 1).padStart(2, '0')}-found-${seed}`
  await writeCase(arena, join(FOLDER, name), fixed, [
    `Found by scripts/fuzz --seed ${seed}:`,
    ...small.finding.faults,
  ])
  say(`\n${fixed.directory.yaml}`)
  for (const fault of small.finding.faults) say(fault)
  if (small.finding.faults.every((fault) => fault.includes('later packet'))) {
    say(
      '\nOnly later packets of a connection are wrong, which a golden case does not try: it is there for its policies.',
    )
  }
  say(`\nwritten to test/golden/${name}. To see it again:
  sudo scripts/test test/system/golden.test.ts
  sudo scripts/fuzz --time ${time} --seed ${seed}`)
}

const arena = await openArena()
try {
  say(`fuzz: for ${time}, seed ${seed}`)
  let toldAt = 0
  const { figures, disagreement } = await campaign(arena, {
    seed,
    isOver: () => passed() >= duration,
    size: () => 1 + Math.floor((passed() / duration) * LARGEST * 0.999),
    packets: 240,
    onProgress(now) {
      if (passed() - toldAt < PROGRESS_MS) return
      toldAt = passed()
      say(line(now))
    },
  })
  say(told(figures))
  if (disagreement !== null) {
    await report(disagreement)
    process.exitCode = 1
  } else say('the kernel and the reference agree on all of them')
} finally {
  await arena.close()
}

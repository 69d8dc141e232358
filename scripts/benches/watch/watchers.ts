// The same attempts before egress25, fail2ban and CrowdSec: what each of them sees, what that costs, and how soon it finds
// the machines behind them.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Bench, Figure, Measurement } from '../measurement.ts'
import { median } from '../rounds.ts'
import { crowdsec } from './crowdsec.ts'
import { fail2ban } from './fail2ban.ts'
import { openArena, realSource, SHARE } from './flood.ts'
import { service } from './service.ts'
import { usageOf } from './usage.ts'
import { LIMITS, type Watcher, type Watching } from './watcher.ts'

const PACKETS = 100_000
const REAL = 20
/** Milliseconds: so long nothing new, and it is through with what it was told; and the longest that anybody waits for it. */
const STILL = 12_000
const PATIENCE = 150_000

export const watchers: Measurement = {
  name: 'watchers',
  title: 'Attempts, and the machines behind them',
  about:
    `${PACKETS.toLocaleString('en')} SYNs to port 25 at the full speed of trafgen, from forged addresses and from ${REAL} ` +
    `machines that make one attempt in ${SHARE} each. Each program is to find who makes ${LIMITS.attempts} attempts ` +
    `within ${LIMITS.seconds / 60} minutes. fail2ban and CrowdSec read the lines of a kernel log, as ulogd2 writes them: ` +
    'the kernel itself logs nothing for network namespaces unless the whole machine is told to, and drops what its own ' +
    'buffer has no room for. Attempts seen are, of egress25, those that the kernel counted for it; of the others, those ' +
    'that they say they have read and understood. The whole flood lasts about half a second, of which egress25 is told a ' +
    'sample; whom that does not show, the exact counters of the kernel do, which it reads when such a burst is over.',
  measure,
}

interface Result {
  readonly seen: number
  readonly told: number
  readonly sent: number
  readonly seconds: Readonly<Record<string, number>>
  /** Seconds from the first packet until it had found each of the real machines that it found. */
  readonly found: readonly number[]
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const watcher of [service, fail2ban, crowdsec]) {
    progress(watcher.name)
    const place = join(folder, watcher.name)
    mkdirSync(place)
    figures.push(...figuresOf(watcher.name, await observe(watcher, place)))
  }
  return figures
}

async function observe(watcher: Watcher, folder: string): Promise<Result> {
  const arena = await openArena(REAL)
  try {
    const watching = await watcher.start(arena.lab, folder)
    const used = () =>
      Object.fromEntries(
        Object.entries(watching.processes).map(([name, pid]) => [name, usageOf(pid).seconds]),
      )
    const before = used()
    const started = performance.now()
    await arena.flood(PACKETS)
    await untilStill(watching)
    const after = used()
    const { sent } = await arena.seen()
    const told = await watching.told()
    const counted =
      'status' in watching ? (watching as Awaited<ReturnType<typeof service.start>> & Counting) : null
    return {
      sent,
      told,
      seen: counted === null ? told : (await counted.status()).attempts.total,
      seconds: Object.fromEntries(
        Object.entries(after).map(([name, seconds]) => [name, seconds - (before[name] ?? 0)]),
      ),
      found: Array.from({ length: REAL }, (_, index) => watching.found.get(realSource(index)))
        .filter((at) => at !== undefined)
        .map((at) => (at - started) / 1000),
    }
  } finally {
    await arena.close()
  }
}

interface Counting {
  status(): Promise<{ readonly attempts: { readonly total: number } }>
}

/** Until nothing more is told or found, and the processes rest. */
async function untilStill(watching: Watching): Promise<void> {
  let before = ''
  let since = performance.now()
  for (const deadline = performance.now() + PATIENCE; performance.now() < deadline; ) {
    const now = `${await watching.told()} ${watching.found.size}`
    if (now !== before) since = performance.now()
    else if (performance.now() - since > STILL) return
    before = now
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
}

function figuresOf(name: string, { seen, told, sent, seconds, found }: Result): Figure[] {
  const command = COMMANDS[name] ?? name
  const n = (value: number) => value.toLocaleString('en')
  const figure = (what: string, result: number, unit: Figure['unit'], detail: string): Figure => ({
    ...{ what: `${name}: ${what}`, command, reference: null, result, unit },
    ...{ spread: null, detail, rounds: 1, goal: null },
  })
  const all = Object.values(seconds).reduce((sum, one) => sum + one, 0)
  const parts = Object.entries(seconds).map(([program, one]) => `${program} ${one.toFixed(2)} s`)
  const inDetail = seen === told ? '' : `, ${n(told)} of them in detail`
  const late = found.length === 0 ? 'none found' : `the last one after ${Math.max(...found).toFixed(2)} s`
  return [
    figure('attempts seen', (seen / sent) * 100, '%', `${n(seen)} of ${n(sent)}${inDetail}`),
    figure('processor time for 100,000 attempts', (all / sent) * 100_000, 's', parts.join(', ')),
    figure('machines found', (found.length / REAL) * 100, '%', `${found.length} of ${REAL}, ${late}`),
    ...(found.length === 0
      ? []
      : [figure('until a machine is found, median', median(found), 's', 'from the start of the generator')]),
  ]
}

const COMMANDS: Readonly<Record<string, string>> = {
  egress25: 'egress25 --config FILE serve',
  fail2ban: 'ulogd -c FILE, fail2ban-server -c DIR -f start',
  CrowdSec: 'ulogd -c FILE, crowdsec -c FILE',
}

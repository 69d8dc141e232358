// Side by side: what a user would take instead of egress25, from a thousand prefixes to a million.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { openLab } from '../../lab/lab.ts'
import type { Probe } from '../../lab/probe.ts'
import { disjointPrefixes } from '../fixtures.ts'
import type { Bench, Figure, Measurement } from '../measurement.ts'
import { median, quantile } from '../rounds.ts'
import { type Contender, OverLimit, type Run } from './contender.ts'
import { contenders } from './contenders.ts'

const SIZES = [1_000, 10_000, 100_000, 1_000_000]
const LIMIT_S = 120
/** How often each is measured with a size, as long as all its rounds with it have not taken so many seconds. */
const ROUNDS = 3
const BUDGET_S = 15
const TASKS = ['first apply', 'one more exemption'] as const
type Task = (typeof TASKS)[number]

const COMMANDS: Readonly<Record<string, readonly [string, string]>> = {
  egress25: ['egress25 --config FILE apply', 'curl -X PUT …/v1/exemptions/NAME'],
  'nft file, interval set': ['nft -f FILE', 'nft add element inet plain exempt { HOST }'],
  'firewalld, ipset entries': [
    'firewall-cmd --permanent --ipset=exempt --add-entries-from-file=FILE && firewall-cmd --reload',
    'firewall-cmd --ipset=exempt --add-entry=HOST',
  ],
  ferm: ['ferm FILE', 'ferm FILE'],
}

export const compare: Measurement = {
  name: 'compare',
  title: 'Instead of egress25',
  about:
    'Port 25 is blocked for everybody but those on a list of prefixes of 8 lengths, no two of which overlap: by egress25, and by what else there ' +
    'is in Debian for it. First apply: from the list to rules in force. One more exemption: the command for one more host, ' +
    'until it has ended. Real packets show each time that the host passes, and another one does not. Of egress25 the change ' +
    'is then also durable, and checked, tested and kept as a document; of nft and firewalld it is not, a reboot forgets ' +
    'it. (egress25 and ferm take prefixes that overlap, too; nft needs auto-merge for that, and firewalld refuses such ' +
    'a list.) firewalld is the real service, ' +
    'with the nftables back end and a D-Bus of its own; ferm makes a rule for each prefix, and all of them again for one ' +
    `more. Programs take turns, in another order each round; medians of up to ${ROUNDS} rounds, fewer where they take ` +
    `long. What has not ended after ${LIMIT_S} s is ended, and says so; so does what fails.`,
  measure,
}

/** What became of one program with one size. */
interface Course {
  readonly seconds: Record<Task, number[]>
  /** Why there is no more to measure of a task; null as long as there is. */
  readonly end: Record<Task, string | null>
  spent: number
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const size of SIZES) {
    const prefixes = disjointPrefixes(size)
    const order = [...contenders]
    const courses = new Map<Contender, Course>()
    for (const one of contenders) {
      const end = { 'first apply': null, 'one more exemption': null }
      courses.set(one, { seconds: { 'first apply': [], 'one more exemption': [] }, end, spent: 0 })
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const contender of order) {
        const course = courses.get(contender)
        if (
          course === undefined ||
          course.spent > BUDGET_S ||
          TASKS.some((task) => course.end[task] !== null)
        )
          continue
        progress(`${size.toLocaleString('en')} prefixes, round ${round + 1}: ${contender.name}`)
        const started = performance.now()
        const place = join(folder, `${size}-${round}-${contenders.indexOf(contender)}`)
        mkdirSync(place)
        await oneRound(contender, course, place, prefixes).catch((error: Error) => {
          // What does not do its job is not quick, either.
          for (const task of TASKS) {
            course.end[task] = error.message
            course.seconds[task].length = 0
          }
        })
        course.spent += (performance.now() - started) / 1000
      }
      const first = order.shift()
      if (first !== undefined) order.push(first)
    }
    for (const [{ name }, course] of courses) {
      for (const [index, task] of TASKS.entries()) {
        figures.push(figureOf(name, task, size, course, COMMANDS[name]?.[index] ?? ''))
      }
    }
  }
  return figures
}

/** Everything anew, in namespaces of its own: what a killed program leaves behind disturbs nobody. */
async function oneRound(
  contender: Contender,
  course: Course,
  folder: string,
  prefixes: readonly string[],
): Promise<void> {
  const lab = await openLab()
  try {
    await (await lab.probe(lab.internet)).listen([25])
    const ready = await contender.open({ lab, folder, prefixes })
    const timed = async (task: Task, work: (run: Run) => Promise<void>) => {
      const started = performance.now()
      const left = () => LIMIT_S * 1000 - (performance.now() - started)
      const run: Run = async (argv) => {
        const time = left()
        if (time <= 0) throw new OverLimit()
        const { code, stdout, stderr } = await lab
          .exec(lab.gateway, argv, { timeoutMs: time })
          .catch((error: Error) => {
            throw left() <= 0 ? new OverLimit() : error
          })
        if (code !== 0) throw new Error(`${stderr}${stdout}`.trim() || `status ${code}`)
      }
      try {
        await work(run)
        course.seconds[task].push((performance.now() - started) / 1000)
        return true
      } catch (error) {
        course.end[task] = error instanceof OverLimit ? OVER : (error as Error).message.slice(0, 500)
        return false
      }
    }
    if (!(await timed('first apply', (run) => ready.first(run)))) return
    const client = await lab.client()
    await mustPass(client, prefixes.length, false)
    await ready.between?.()
    if (await timed('one more exemption', (run) => ready.oneMore(run, HOST))) {
      await mustPass(client, prefixes.length, true)
    }
  } finally {
    await lab.close()
  }
}

const OVER = 'over the limit'
const HOST = '100.64.12.7'
const OTHER = '100.64.12.8'

async function mustPass(client: Probe, size: number, isExempt: boolean): Promise<void> {
  for (const [from, passes] of [
    [HOST, isExempt],
    [OTHER, false],
  ] as const) {
    const outcome = await client.connect({ from, to: '203.0.113.9', port: 25, timeoutMs: 10_000 })
    if ((outcome === 'connected') !== passes) {
      throw new Error(`with ${size} prefixes, a packet from ${from} fares wrongly: ${outcome}`)
    }
  }
}

function figureOf(program: string, task: Task, prefixes: number, course: Course, command: string): Figure {
  const seconds = course.seconds[task]
  const why = course.end[task]
  const outcome =
    seconds.length > 0 ? 'done' : why === null ? 'not reached' : why === OVER ? 'over' : 'failed'
  return {
    what: `${task}, ${prefixes.toLocaleString('en')} prefixes: ${program}`,
    command,
    reference: null,
    result: outcome === 'done' ? median(seconds) : LIMIT_S,
    unit: 's',
    spread: seconds.length > 1 ? { from: quantile(seconds, 0.25), to: quantile(seconds, 0.75) } : null,
    detail: outcome === 'failed' ? (why ?? '') : '',
    rounds: seconds.length,
    goal: null,
    cell: { task, program, prefixes, outcome },
  }
}

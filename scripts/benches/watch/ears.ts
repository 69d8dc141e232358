// What the service hears attempts with, and ulogd2, each told of every packet of a flood.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../../lab/lab.ts'
import type { Bench, Figure, Measurement } from '../measurement.ts'
import { alternate, median, summary } from '../rounds.ts'
import { openArena } from './flood.ts'
import { startUlogd } from './ulogd.ts'
import { childOf, usageOf } from './usage.ts'
import { load, onLines, pidOf, until } from './watcher.ts'

const PACKETS = 1_000_000
const ROUNDS = 3
const GROUP = 26
/** Bytes that a socket may keep at most, of the whole machine. */
const RMEM_MAX = '/proc/sys/net/core/rmem_max'
const ASKED_FOR = 33_554_432

export const ears: Measurement = {
  name: 'ears',
  title: 'Hearing of every packet',
  about:
    `What the service hears attempts with, tcpdump and its decoder, against ulogd2 with its JSON output: each is told of ` +
    `${PACKETS.toLocaleString('en')} SYNs at the full speed of trafgen by the same rule without any limit, in turn. The ` +
    'service itself is told of 10,000 a second at most, so that a flood costs it no more than that. Their buffers differ: ' +
    'tcpdump asks for 32 MB and gets what net.core.rmem_max allows, by default and with as much allowed; ulogd2 as root takes ' +
    '32 to 64 MB whatever it says. Runs differ as well: beside other work on the same processors it was 15 % against 53 %.',
  measure,
}

type Name = 'ours' | 'roomy' | 'ulogd2'

const READER = 'tcpdump -i nflog:GROUP -B 32768 -U -w -'

async function withRoom<T>(work: () => Promise<T>): Promise<T> {
  const before = readFileSync(RMEM_MAX, 'utf8')
  writeFileSync(RMEM_MAX, String(ASKED_FOR))
  try {
    return await work()
  } finally {
    writeFileSync(RMEM_MAX, before)
  }
}

interface Ear {
  /** How many packets it was told of. */
  told(): number
  readonly pids: readonly number[]
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  progress(`${ROUNDS} rounds`)
  const costs: Record<Name, number[]> = { ours: [], roomy: [], ulogd2: [] }
  const lost = async (name: Name, open: (lab: Lab, folder: string) => Promise<Ear>): Promise<number> => {
    const arena = await openArena(0)
    try {
      const place = join(folder, `${name}-${costs[name].length}`)
      mkdirSync(place)
      await load(arena.lab, everyPacket(GROUP))
      const ear = await open(arena.lab, place)
      const used = () => ear.pids.reduce((sum, pid) => sum + usageOf(pid).seconds, 0)
      const before = used()
      await arena.flood(PACKETS)
      await standsStill(ear)
      const { sent } = await arena.seen()
      costs[name].push(((used() - before) / sent) * 100_000)
      return (1 - ear.told() / sent) * 100
    } finally {
      await arena.close()
    }
  }
  const found = await alternate(ROUNDS, {
    ours: () => lost('ours', openReader),
    roomy: () => withRoom(() => lost('roomy', openReader)),
    ulogd2: () => lost('ulogd2', openUlogd),
  })
  const row = (name: Name, who: string, command: string): Figure => ({
    ...{ what: `events lost by ${who}`, command, reference: null, unit: '%', goal: null },
    ...summary(found[name]),
    detail: `${median(costs[name]).toFixed(2)} s of processor time for 100,000 attempts`,
  })
  return [
    row('ours', 'what egress25 hears with', READER),
    row('roomy', `the same with net.core.rmem_max=${ASKED_FOR}`, READER),
    row('ulogd2', 'ulogd2 with JSON output', 'ulogd -c FILE'),
  ]
}

/** Both are told of the packets in the same way, with the label that our decoder wants. */
function everyPacket(group: number): string {
  return `table inet plain {
  chain forward {
    type filter hook forward priority 0; policy accept;
    tcp dport 25 tcp flags & (syn | ack) == syn log prefix "block:residential" group ${group} snaplen 128
    tcp dport 25 reject with tcp reset
  }
}
`
}

async function openReader(lab: Lab): Promise<Ear> {
  const script = fileURLToPath(new URL('reader.ts', import.meta.url))
  const argv = [process.execPath, '--disable-warning=ExperimentalWarning', script, String(GROUP)]
  const child = lab.spawn(lab.gateway, argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  let told = -1
  onLines(child, (line) => {
    told = line === 'listening' ? 0 : Number(line)
  })
  const pid = pidOf(child)
  await until('the reader', () => told >= 0)
  const tcpdump = await until('tcpdump', () => childOf(pid, 'tcpdump'))
  return { told: () => told, pids: [pid, tcpdump] }
}

async function openUlogd(lab: Lab, folder: string): Promise<Ear> {
  const { pid, lines } = await startUlogd(lab, folder, GROUP, 'json')
  return { told: lines, pids: [pid] }
}

/** When nothing more has come for two seconds. */
async function standsStill({ told }: Ear): Promise<void> {
  for (let before = -1; before !== told(); ) {
    before = told()
    await new Promise((resolve) => setTimeout(resolve, 2_000))
  }
}

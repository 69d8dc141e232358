// What the service makes of a flood at the generator's full speed.
import type { Bench, Figure, Measurement } from '../measurement.ts'
import { type Arena, openArena, realSource, SHARE } from './flood.ts'
import { type Service, startService } from './service.ts'
import { usageOf } from './usage.ts'
import { until } from './watcher.ts'

/** Of 16,777,216 possible sources, so many draws give a million of them. */
const PACKETS = 1_060_000
/** Real machines among them. */
const REAL = 20
const TRACKED = 65_536
/** The counters of machines are read each minute, and that takes the most memory. */
const MINUTE_MS = 62_000
const COMMAND = 'egress25 --config FILE serve'

export const watch: Measurement = {
  name: 'watch',
  title: 'A flood from a million forged addresses',
  about:
    `${PACKETS.toLocaleString('en')} SYNs to port 25 from about 1,000,000 forged sources and ${REAL} machines that make one ` +
    `attempt in ${SHARE} each, into a gateway with the whole service in it, until its counters of machines have been read. ` +
    "One such flood is put into the gateway's network stack as if its device had received it (BPF_PROG_TEST_RUN with live " +
    'frames), on every processor, as fast as that takes it; another is sent at the full speed of trafgen, which shares the processors with the ' +
    'rules and the service. All other figures are of both together. Sent and passed are counted by nftables of the lab, before and behind the gateway; processor time is ' +
    'that of the processes, and not that of the rules.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const arena = await openArena(REAL)
  try {
    const service = await startService(arena.lab, folder)
    const before = usageNow(service)
    const speeds = { inject: 0, flood: 0 }
    for (const way of ['inject', 'flood'] as const) {
      progress(way === 'inject' ? 'a flood that arrives' : 'a flood that is sent')
      speeds[way] = PACKETS / (await arena[way](PACKETS))
      await settled(service)
      await new Promise((resolve) => setTimeout(resolve, MINUTE_MS))
    }
    const { sent, passed } = await arena.seen()
    const { attempts, events } = await settled(service)
    const found = await service.incidents()
    const real = Array.from({ length: REAL }, (_, index) => realSource(index))
    const missed = real.filter((source) => !found.some((one) => one.source === source))
    const others = found.filter(({ source }) => !real.includes(source))
    const sources = await elementsOf(arena, 'sources4')
    const after = usageNow(service)
    const unexplained = attempts.total - events.received - events.lost
    const per = (name: 'node' | 'tcpdump') =>
      ((after[name].seconds - before[name].seconds) / attempts.total) * 100_000
    const share = (count: number) => (count / sent) * 100
    const figure = (
      what: string,
      result: number,
      unit: Figure['unit'],
      detail: string,
      goal: number | null,
    ): Figure => ({
      ...{ what, command: COMMAND, reference: null, result, unit },
      ...{ spread: null, detail, rounds: 1, goal },
    })
    const n = (value: number) => value.toLocaleString('en')
    return [
      figure(
        'SYNs that arrived, as fast as the gateway takes them',
        speeds.inject,
        '/s',
        'with the rules in their way',
        null,
      ),
      figure('SYNs that trafgen sent', speeds.flood, '/s', 'with the rules in its way', null),
      figure(
        'SYNs that were not counted',
        share(sent - attempts.total),
        '%',
        `${n(attempts.total)} of ${n(sent)}`,
        0,
      ),
      figure('SYNs that passed', share(passed), '%', `${n(passed)} of ${n(sent)}`, 0),
      figure(
        'attempts neither told in detail nor reported as lost',
        share(Math.abs(unexplained)),
        '%',
        `${n(events.received)} told, ${n(events.lost)} reported`,
        0,
      ),
      figure(
        'real machines without an incident of their own',
        (missed.length / REAL) * 100,
        '%',
        `${REAL - missed.length} of ${REAL} found; beside them ${others.map(({ kind }) => `one ${kind}`).join(', ')}`,
        0,
      ),
      figure('incidents of forged sources', others.length - 1, '%', 'the flood itself is one incident', 0),
      figure(
        'sources that the kernel tracks, of those that it may',
        (sources / TRACKED) * 100,
        '%',
        `${n(sources)} of ${n(TRACKED)}, after it has made room`,
        100,
      ),
      figure('processor time of Node.js for 100,000 attempts', per('node'), 's', '', null),
      figure('processor time of tcpdump for 100,000 attempts', per('tcpdump'), 's', '', null),
      figure('most memory of Node.js', after.node.peakBytes / 1e6, 'MB', '', 300),
      figure('most memory of tcpdump', after.tcpdump.peakBytes / 1e6, 'MB', '', null),
    ]
  } finally {
    await arena.close()
  }
}

/** Once everything has been told or reported. */
function settled(service: Service) {
  return until('all to be told or reported', async () => {
    const status = await service.status()
    const { received, lost } = status.events
    return received + lost === status.attempts.total && status
  })
}

function usageNow({ processes }: Service) {
  const [node, tcpdump] = [processes['Node.js'] ?? 0, processes['tcpdump'] ?? 0].map(usageOf)
  if (node === undefined || tcpdump === undefined) throw new Error('a process is missing')
  return { node, tcpdump }
}

async function elementsOf({ lab }: Arena, set: string): Promise<number> {
  const { stdout } = await lab.exec(lab.gateway, ['nft', 'list', 'set', 'inet', 'egress25', set])
  return [...stdout.matchAll(/ counter packets /g)].length
}

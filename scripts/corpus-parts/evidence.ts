/** What the kernel and the history would know of a host of the corpus that was let through in mode observe, for the report. */
import type { SenderEvidence } from '../../src/report/evidence.ts'
import { judgeHost } from './judged.ts'
import type { Random } from './random.ts'
import type { Connection, LabelledHost } from './types.ts'

const MINUTE = 60_000
const HOUR = 3_600_000
/** Bytes of data in one segment, over Ethernet with timestamps. */
const SEGMENT = 1_448
/** Greeting, envelope and goodbye go one by one; who only looks whether somebody answers says two of them. */
const WORDS = 5
const GLANCE = { below: 100, words: 2 }

/** With the names that its address has in the DNS, and the incidents that the detector opened meanwhile. */
export function evidenceOf(host: LabelledHost, random: Random): SenderEvidence {
  const destinations = new Map<string, number>()
  const hours = new Set<number>()
  const inMinute = new Map<number, Set<string>>()
  const sums = { attempts: 0, closed: 0, segments: 0, payload: 0 }
  let [first, last] = [Number.POSITIVE_INFINITY, 0]
  for (const connection of host.connections) {
    const { time, destination, retransmissions, answered, bytesOut } = connection
    const syns = 1 + retransmissions.length
    sums.attempts += syns
    destinations.set(destination, (destinations.get(destination) ?? 0) + syns)
    hours.add(Math.floor(time / HOUR))
    const minute = Math.floor(time / MINUTE)
    // In the order of time: an earlier minute never comes again.
    const tried = inMinute.get(minute) ?? new Set()
    inMinute.set(minute, tried.add(destination))
    first = Math.min(first, time)
    last = Math.max(last, time)
    if (!answered) continue
    sums.closed++
    sums.segments += segmentsOf(connection)
    sums.payload += bytesOut
  }
  const { kind } = judgeHost({ ...host, exempt: false })
  const messages = host.receives ? random.between(20, 2_000) : 0
  return {
    ...sums,
    destinations: destinations.size,
    topShare: Math.max(0, ...destinations.values()) / Math.max(1, sums.attempts),
    // As the history counts them.
    destinationsInMinute: Math.min(64, Math.max(0, ...[...inMinute.values()].map(({ size }) => size))),
    activeHours: hours.size,
    spanHours: Math.max(1, Math.ceil((last - first) / HOUR)),
    received: { segments: messages * 8, payload: messages * 6_000 },
    name: nameOf(host),
    incidents: kind === null ? [] : [kind],
  }
}

function segmentsOf({ bytesOut }: Connection): number {
  return bytesOut < GLANCE.below ? GLANCE.words : WORDS + Math.ceil(bytesOut / SEGMENT)
}

/** Who receives mail has a name of its own where it has one; the others are called after their provider's pool. */
function nameOf({ named, receives, machine }: LabelledHost): SenderEvidence['name'] {
  const own = named ? 'mail.acme.example' : null
  const pool = named ? `${machine.replace(/[.:/]+/g, '-')}.pool.example.net` : null
  return { ptr: receives ? own : pool, confirmed: named }
}

/**
 * What the kernel and the history would know of a host of the corpus that was let through in mode observe, for the report.
 * What the history does not keep is not known here either: it names the servers that were tried most.
 */
import type { SenderEvidence } from '../../src/report/evidence.ts'
import { rhythmOf } from '../../src/report/rhythm.ts'
import { judgeHost } from './judged.ts'
import { DAY, OBSERVED_DAYS } from './models.ts'
import type { Connection, LabelledHost, Received } from './types.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
/** Bytes of data in one segment, over Ethernet with timestamps. */
const SEGMENT = 1_448
/** Greeting, envelope and goodbye go one by one; who only looks whether somebody answers says two of them. */
const WORDS = 5
const GLANCE = { below: 100, words: 2 }
/** A hello, or an envelope that is refused; every third begins TLS (500 bytes and more): what one says, on average. */
const PROBE = { segments: 4, payload: 270 }
/** What src/store keeps of the servers that a machine tried: of a minute, and of a day that has twice as many. */
const KEPT = { counted: 64, ofMinute: 5, ofDay: 20 }

/** As it is known after the last of its connections, with the incidents that the detector opened meanwhile. */
export function evidenceOf(host: LabelledHost): SenderEvidence {
  const all = [...host.connections]
  const last = all.at(-1)?.time ?? 0
  const observed = all.filter(({ time }) => time > last - OBSERVED_DAYS * DAY)
  const answered = observed.filter((connection) => connection.answered)
  const sum = (some: readonly Connection[], what: (one: Connection) => number) =>
    some.reduce((total, one) => total + what(one), 0)
  const { servers, destinationsInMinute } = remembered(observed)
  const told = [...servers.values()].reduce((total, tries) => total + tries, 0)
  const { kind } = judgeHost({ ...host, exempt: false, connections: observed })
  return {
    attempts: sum(observed, syns),
    closed: answered.length,
    segments: sum(answered, segmentsOf),
    payload: sum(answered, ({ bytesOut }) => bytesOut),
    destinations: Math.max(servers.size, destinationsInMinute),
    destinationsInMinute,
    topShare: Math.max(0, ...servers.values()) / Math.max(1, told),
    triesPerServer: told / Math.max(1, servers.size),
    ...rhythmOf(hoursOf(observed)),
    spanHours: Math.max(1, Math.ceil((last - (observed[0]?.time ?? last)) / HOUR)),
    received: receivedOf(host.received),
    name: host.name,
    incidents: kind === null ? [] : [kind],
  }
}

function syns({ retransmissions }: Connection): number {
  return 1 + retransmissions.length
}

function segmentsOf({ bytesOut }: Connection): number {
  return bytesOut < GLANCE.below ? GLANCE.words : WORDS + Math.ceil(bytesOut / SEGMENT)
}

function receivedOf({ messages, probes }: Received): SenderEvidence['received'] {
  return {
    segments: messages * 8 + probes * PROBE.segments,
    payload: messages * 6_000 + probes * PROBE.payload,
  }
}

function hoursOf(connections: readonly Connection[]): { time: number; attempts: number }[] {
  const hours = new Map<number, number>()
  for (const connection of connections) {
    const hour = Math.floor(connection.time / HOUR) * HOUR
    hours.set(hour, (hours.get(hour) ?? 0) + syns(connection))
  }
  return [...hours].map(([time, attempts]) => ({ time, attempts }))
}

/** The servers that the history still names, and how often each was tried then; and the most within a minute. */
function remembered(connections: readonly Connection[]) {
  const days = new Map<number, Map<string, number>>()
  let destinationsInMinute = 0
  for (const [minute, tried] of byMinute(connections)) {
    destinationsInMinute = Math.max(destinationsInMinute, tried.size)
    const day = Math.floor((minute * MINUTE) / DAY)
    const kept = days.get(day) ?? new Map<string, number>()
    for (const [server, tries] of most(tried, KEPT.ofMinute))
      kept.set(server, (kept.get(server) ?? 0) + tries)
    days.set(day, kept.size > 2 * KEPT.ofDay ? new Map(most(kept, KEPT.ofDay)) : kept)
  }
  const servers = new Map<string, number>()
  for (const day of days.values()) {
    for (const [server, tries] of day) servers.set(server, (servers.get(server) ?? 0) + tries)
  }
  return { servers, destinationsInMinute }
}

function byMinute(connections: readonly Connection[]): Map<number, Map<string, number>> {
  const minutes = new Map<number, Map<string, number>>()
  for (const connection of connections) {
    const minute = Math.floor(connection.time / MINUTE)
    const tried = minutes.get(minute) ?? new Map<string, number>()
    const { destination } = connection
    if (tried.has(destination) || tried.size < KEPT.counted) {
      tried.set(destination, (tried.get(destination) ?? 0) + syns(connection))
    }
    minutes.set(minute, tried)
  }
  return minutes
}

function most(tries: ReadonlyMap<string, number>, many: number): [string, number][] {
  return [...tries].sort(([, a], [, b]) => b - a).slice(0, many)
}

/**
 * Labelled machines for the report: what the kernel and the history would know of kinds of senders after a week in mode
 * observe. Each is drawn from a model with its own randomness, edges included; half are for tuning, half for measuring.
 */
import type { SenderEvidence, SenderGroup } from '../../src/report/evidence.ts'

export interface LabelledSender {
  readonly model: string
  readonly label: SenderGroup
  readonly evidence: SenderEvidence
}

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

interface Traffic {
  readonly connections: number
  /** Of these, that are answered and closed in order. */
  readonly answered: number
  /** SYNs for each that is not answered. */
  readonly retries: number
  readonly segments: number
  readonly payload: number
  readonly destinations: number
  readonly topShare: number
  readonly inMinute: number
  readonly activeHours: number
  readonly spanHours: number
  readonly received: number
  readonly ptr: string | null
  readonly confirmed: boolean
  readonly incidents?: readonly string[]
}

/** Models by name; `between` draws evenly, and `chance` is a coin. */
type Model = (between: (least: number, most: number) => number, chance: (share: number) => boolean) => Traffic

const GENERIC = 'p4fe3a1b2.dip0.example.net'
const POOL = '100-64-7-7.pool.example.net'
const OWN = 'mail.acme.example'

const MODELS: Readonly<Record<string, { readonly label: SenderGroup; readonly model: Model }>> = {
  /** A company's own server: sends and receives all week. */
  'mail server of a company': {
    label: 'mail-server',
    model: (between, chance) => ({
      connections: between(60, 3_000),
      answered: between(80, 98) / 100,
      retries: between(2, 6),
      segments: between(5, 12),
      payload: between(1_500, 60_000),
      destinations: between(20, 400),
      topShare: between(8, 40) / 100,
      inMinute: between(1, 12),
      activeHours: between(40, 160),
      spanHours: 168,
      received: between(100, 5_000),
      ptr: chance(0.85) ? OWN : chance(0.5) ? POOL : null,
      confirmed: chance(0.95),
    }),
  },
  /** A family's or club's server: little mail, greylisted often. */
  'small mail server': {
    label: 'mail-server',
    model: (between, chance) => ({
      connections: between(12, 80),
      answered: between(70, 95) / 100,
      retries: between(2, 5),
      segments: between(5, 10),
      payload: between(900, 20_000),
      destinations: between(5, 30),
      topShare: between(10, 50) / 100,
      inMinute: between(1, 4),
      activeHours: between(7, 40),
      spanHours: between(100, 168),
      received: between(20, 300),
      ptr: chance(0.6) ? OWN : POOL,
      confirmed: true,
    }),
  },
  /** Sends newsletters, and receives at another place. */
  'newsletter host': {
    label: 'mail-server',
    model: (between) => ({
      connections: between(2_000, 30_000),
      answered: between(75, 95) / 100,
      retries: between(2, 6),
      segments: between(5, 9),
      payload: between(8_000, 90_000),
      destinations: between(200, 1_000),
      topShare: between(10, 35) / 100,
      inMinute: between(10, 64),
      activeHours: between(6, 40),
      spanHours: between(100, 168),
      received: 0,
      ptr: OWN,
      confirmed: true,
    }),
  },
  'bursty bot': {
    label: 'bot',
    model: (between, chance) => ({
      connections: between(500, 20_000),
      answered: between(5, 35) / 100,
      retries: between(1, 3),
      segments: between(2, 6),
      payload: between(120, 3_000),
      destinations: between(150, 1_000),
      topShare: between(1, 10) / 100,
      inMinute: between(25, 64),
      activeHours: between(1, 60),
      spanHours: between(10, 168),
      received: 0,
      ptr: chance(0.8) ? POOL : GENERIC,
      confirmed: chance(0.7),
      incidents: chance(0.9) ? ['spam-bot'] : [],
    }),
  },
  'slow and low bot': {
    label: 'bot',
    model: (between, chance) => ({
      connections: between(60, 400),
      answered: between(10, 45) / 100,
      retries: between(1, 3),
      segments: between(2, 6),
      payload: between(120, 3_000),
      destinations: between(40, 300),
      topShare: between(1, 12) / 100,
      inMinute: between(1, 3),
      activeHours: between(30, 160),
      spanHours: between(100, 168),
      received: 0,
      ptr: chance(0.8) ? POOL : null,
      confirmed: false,
      incidents: chance(0.4) ? ['spam-bot'] : [],
    }),
  },
  /** Whatever it says is refused after the greeting or the envelope. */
  'bot that is refused': {
    label: 'bot',
    model: (between, chance) => ({
      connections: between(100, 3_000),
      answered: between(50, 90) / 100,
      retries: between(1, 3),
      segments: between(1, 3),
      payload: between(20, 220),
      destinations: between(40, 800),
      topShare: between(1, 12) / 100,
      inMinute: between(5, 64),
      activeHours: between(4, 100),
      spanHours: between(20, 168),
      received: 0,
      ptr: chance(0.8) ? POOL : null,
      confirmed: false,
      incidents: chance(0.7) ? ['spam-bot'] : [],
    }),
  },
  'bot that delivers': {
    label: 'bot',
    model: (between, chance) => ({
      connections: between(500, 9_000),
      answered: between(30, 60) / 100,
      retries: between(1, 3),
      segments: between(4, 7),
      payload: between(600, 6_000),
      destinations: between(100, 900),
      topShare: between(2, 13) / 100,
      inMinute: between(20, 64),
      activeHours: between(3, 80),
      spanHours: between(20, 168),
      received: 0,
      ptr: chance(0.85) ? POOL : null,
      confirmed: chance(0.5),
      incidents: ['spam-bot'],
    }),
  },
  'port scanner': {
    label: 'bot',
    model: (between, chance) => ({
      connections: between(200, 5_000),
      answered: between(0, 5) / 100,
      retries: 1,
      segments: 0,
      payload: 0,
      destinations: between(200, 1_000),
      topShare: between(0, 2) / 100,
      inMinute: between(30, 64),
      activeHours: between(1, 10),
      spanHours: between(1, 48),
      received: 0,
      ptr: chance(0.8) ? POOL : null,
      confirmed: false,
      incidents: chance(0.8) ? ['scanner'] : [],
    }),
  },
  'printer with a server that is gone': {
    label: 'misconfigured-client',
    model: (between, chance) => ({
      connections: between(20, 600),
      answered: 0,
      retries: between(3, 7),
      segments: 0,
      payload: 0,
      destinations: between(1, 2),
      topShare: between(60, 100) / 100,
      inMinute: between(1, 2),
      activeHours: between(5, 160),
      spanHours: between(20, 168),
      received: 0,
      ptr: chance(0.7) ? POOL : null,
      confirmed: false,
    }),
  },
  'program that mails to one server': {
    label: 'misconfigured-client',
    model: (between, chance) => ({
      connections: between(6, 400),
      answered: between(85, 100) / 100,
      retries: between(2, 5),
      segments: between(4, 8),
      payload: between(500, 9_000),
      destinations: between(1, 3),
      topShare: between(50, 100) / 100,
      inMinute: 1,
      activeHours: between(3, 160),
      spanHours: between(30, 168),
      received: 0,
      ptr: chance(0.7) ? POOL : OWN,
      confirmed: chance(0.5),
    }),
  },
  /** A server that was broken into sends both. */
  'mail server that was broken into': {
    label: 'cannot-tell',
    model: (between) => ({
      connections: between(3_000, 30_000),
      answered: between(15, 35) / 100,
      retries: between(1, 3),
      segments: between(3, 7),
      payload: between(600, 6_000),
      destinations: between(300, 1_000),
      topShare: between(2, 12) / 100,
      inMinute: between(25, 64),
      activeHours: between(60, 160),
      spanHours: 168,
      received: between(100, 4_000),
      ptr: OWN,
      confirmed: true,
      incidents: ['spam-bot'],
    }),
  },
  'somebody who tried once': {
    label: 'cannot-tell',
    model: (between) => ({
      connections: between(1, 2),
      answered: 0,
      retries: 2,
      segments: 0,
      payload: 0,
      destinations: 1,
      topShare: 1,
      inMinute: 1,
      activeHours: 1,
      spanHours: 1,
      received: 0,
      ptr: POOL,
      confirmed: false,
    }),
  },
}

/** So many of each model. */
export function labelledSenders(seed: number, each: number): LabelledSender[] {
  const random = randomOf(seed)
  const between = (least: number, most: number) => least + Math.floor(random() * (most - least + 1))
  const chance = (share: number) => random() < share
  return Object.entries(MODELS).flatMap(([model, { label, model: draw }]) =>
    Array.from({ length: each }, () => ({ model, label, evidence: evidenceOf(draw(between, chance)) })),
  )
}

function evidenceOf(traffic: Traffic): SenderEvidence {
  const { connections, answered, retries, segments, payload, destinations, inMinute, received, ptr } = traffic
  const closed = Math.round(connections * answered)
  return {
    attempts: Math.round(closed + (connections - closed) * retries),
    destinations: Math.min(destinations, connections),
    topShare: traffic.topShare,
    destinationsInMinute: Math.min(inMinute, destinations),
    activeHours: Math.min(traffic.activeHours, traffic.spanHours),
    spanHours: traffic.spanHours,
    closed,
    segments: closed * segments,
    payload: closed * payload,
    received: { segments: received * 5, payload: received * 2_000 },
    name: { ptr, confirmed: ptr !== null && traffic.confirmed },
    incidents: traffic.incidents ?? [],
  }
}

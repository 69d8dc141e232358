/**
 * Models of what hosts do on port 25, after what has been published of them. The two halves of the corpus differ in seeds
 * and in parameters: what was tuned on one half must hold for hosts that are not quite the same.
 */
import type { Random } from './random.ts'
import type { Connection, Half, HostClass } from './types.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR
/** Before enforcing, policies observe for so long. */
export const OBSERVED_DAYS = 14

/** What every model needs. */
export interface Stage {
  readonly random: Random
  readonly half: Half
  /** The host's own address; rotating bots take others of its prefix. */
  readonly address: string
  readonly start: number
  /** What is blocked is tried again by whoever wants it delivered; what is only observed arrives. */
  readonly blocked: boolean
}

export interface Model {
  readonly label: HostClass
  readonly exempt: boolean
  /** How many of such hosts have mail delivered to them, in the half that is tuned on and in the one reported on. */
  readonly receives: readonly [train: number, report: number]
  /** How many of them have a name of their own; the others have one of a pool, or none. */
  readonly ownName: readonly [train: number, report: number]
  /** IPv6 hosts are known by their prefix. */
  readonly family: 4 | 6
  connections(stage: Stage): Generator<Connection>
  /** When misbehaviour begins, after the start; null: never. */
  misbehaves(stage: Stage): number | null
}

const SYN_RETRIES = [1_000, 3_000, 7_000, 15_000, 31_000]

/** A mail server somewhere: spread as those of the world are, with the large providers' in clusters. */
function mailServer(random: Random, family: 4 | 6): string {
  if (family === 6) {
    const part = () => random.between(1, 0xffff).toString(16)
    return `2001:${part()}:${part()}:${part()}::${random.between(1, 60)}`
  }
  if (random.next() < 0.3) {
    const cluster = random.pick([
      '52.101.8',
      '52.101.68',
      '142.250.27',
      '142.251.9',
      '67.195.228',
      '17.57.155',
    ])
    return `${cluster}.${random.between(1, 40)}`
  }
  return `${random.between(20, 220)}.${random.between(0, 255)}.${random.between(0, 255)}.${random.between(1, 254)}`
}

class Sender {
  readonly #stage: Stage
  #port: number

  constructor(stage: Stage) {
    this.#stage = stage
    this.#port = stage.random.between(32_768, 60_000)
  }

  connect(time: number, destination: string, more: Partial<Connection> = {}): Connection {
    const { random, address } = this.#stage
    this.#port = this.#port >= 60_999 ? 32_768 : this.#port + random.between(1, 7)
    const answered = more.answered ?? random.next() < 0.8
    // Where nobody is refused, only silence makes somebody try again.
    const observed = this.#stage.blocked ? {} : { retransmissions: answered ? [] : silence(random) }
    return {
      time: Math.round(time),
      source: address,
      sourcePort: this.#port,
      destination,
      retransmissions: [],
      answered,
      milliseconds: answered ? random.between(200, 2_500) : 0,
      bytesOut: answered ? random.between(300, 4_000) : 0,
      ...more,
      ...observed,
    }
  }
}

/** Half of those who do not answer refuse at once, the others say nothing. */
function silence(random: Random): readonly number[] {
  return random.next() < 0.5 ? [] : SYN_RETRIES.slice(0, random.between(1, 4))
}

/** How long a host is watched: the report is made after a longer time than a bot needs to be found. */
function daysOf({ blocked }: Stage): number {
  return blocked ? 2 : OBSERVED_DAYS
}

/** How the two halves differ: the second number for the half that is reported on. */
function of<T>({ half }: Stage, train: T, report: T): T {
  return half === 'train' ? train : report
}

/**
 * Bursty: a template and a list of recipients come from the command server, and are worked off as quickly as it goes
 * (Storm and Cutwail, Kreibich et al. 2009, Stone-Gross et al. 2011): some hundred deliveries to ever new servers, then a
 * pause until the next job. Nothing is tried again: what fails is dropped.
 */
const burstyBot: Model = {
  label: 'bursty-bot',
  exempt: false,
  receives: [0, 0],
  ownName: [0, 0],
  family: 4,
  misbehaves: ({ random }) => random.fork('since').between(0, HOUR),
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    let time = start + (this.misbehaves(stage) ?? 0)
    const end = start + daysOf(stage) * DAY
    // Watched for long, it has a few jobs a day.
    const pause = stage.blocked ? of(stage, 40, 60) * MINUTE : of(stage, 8, 16) * HOUR
    for (let job = 0; stage.blocked ? job < 4 : time < end; job++) {
      const recipients = random.between(of(stage, 60, 45), of(stage, 400, 600))
      const pace = random.between(of(stage, 80, 50), of(stage, 900, 1_500))
      for (let i = 0; i < recipients; i++) {
        time += random.gap(pace)
        yield sender.connect(time, mailServer(random, 4))
      }
      time += random.gap(pause)
    }
  },
}

/**
 * Slow and low: a few messages an hour from each of very many machines, below every threshold of a receiver (snowshoe;
 * Pathak et al. 2009 call them low-volume spammers, who send less than a dozen messages a day to any one domain).
 */
const slowBot: Model = {
  label: 'slow-bot',
  exempt: false,
  receives: [0, 0],
  ownName: [0, 0],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const pace = random.between(of(stage, 4, 3), of(stage, 45, 90)) * MINUTE
    for (let time = start + random.gap(pace); time < start + daysOf(stage) * DAY; time += random.gap(pace)) {
      yield sender.connect(time, mailServer(random, 4))
    }
  },
}

/** Few targets with many connections: dictionary attacks and mail bombs against the servers of one or two providers. */
const fewTargetBot: Model = {
  label: 'few-target-bot',
  exempt: false,
  receives: [0, 0],
  ownName: [0, 0],
  family: 4,
  misbehaves: ({ random }) => random.fork('since').between(0, HOUR),
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const targets = Array.from({ length: random.between(2, of(stage, 6, 8)) }, () => mailServer(random, 4))
    const pace = random.between(of(stage, 60, 100), of(stage, 500, 800))
    let time = start + (this.misbehaves(stage) ?? 0)
    for (let i = 0; i < random.between(900, 2_500); i++) {
      time += random.gap(pace)
      yield sender.connect(time, random.pick(targets))
    }
  },
}

/** A bot that takes another address of its IPv6 prefix for each connection, as privacy addresses make easy (RFC 8981). */
const rotatingBot: Model = {
  label: 'rotating-bot',
  exempt: false,
  receives: [0, 0],
  ownName: [0, 0],
  family: 6,
  misbehaves: ({ random }) => random.fork('since').between(0, HOUR),
  *connections(stage) {
    const { random, start, address } = stage
    const sender = new Sender(stage)
    const pace = random.between(of(stage, 500, 800), of(stage, 6_000, 9_000))
    let time = start + (this.misbehaves(stage) ?? 0)
    for (let i = 0; i < random.between(100, 400); i++) {
      time += random.gap(pace)
      const part = () => random.between(1, 0xffff).toString(16)
      const source = `${address.replace(/::.*$/, '')}:${part()}:${part()}:${part()}:${part()}`
      yield sender.connect(time, mailServer(random, 6), { source })
    }
  },
}

/** A worm's or a researcher's sweep: address after address of neighbouring networks (Durumeric et al. 2014). */
const scanner: Model = {
  label: 'scanner',
  exempt: false,
  receives: [0, 0],
  ownName: [0, 0],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const [first, second] = [random.between(20, 220), random.between(0, 255)]
    const third = random.between(0, 240)
    const pace = random.between(of(stage, 20, 30), of(stage, 3_000, 5_000))
    const isShuffled = random.next() < of(stage, 0.3, 0.5)
    let time = start
    for (let block = 0; block < random.between(2, 6); block++) {
      const hosts = Array.from({ length: 254 }, (_, i) => i + 1)
      if (isShuffled) hosts.sort(() => random.next() - 0.5)
      for (const host of hosts) {
        time += random.gap(pace)
        const retransmissions = random.next() < 0.5 ? SYN_RETRIES.slice(0, 1) : []
        const answered = random.next() < 0.02
        yield sender.connect(time, `${first}.${second}.${third + block}.${host}`, {
          retransmissions,
          answered,
        })
      }
    }
  },
}

/**
 * A mail program that was set up for port 25 years ago: the provider's two or three servers, tried whenever it is used,
 * and while something waits to be sent every few minutes.
 */
const mailClient: Model = {
  label: 'mail-client',
  exempt: false,
  receives: [0, 0],
  ownName: [0.05, 0.15],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const servers = Array.from({ length: random.between(1, of(stage, 3, 4)) }, () => mailServer(random, 4))
    const retry = random.between(of(stage, 60, 30), of(stage, 600, 900)) * SECOND
    for (let day = 0; day < daysOf(stage); day++) {
      let time = start + day * DAY + random.between(0, 3 * HOUR)
      for (let use = 0; use < random.between(2, 8); use++) {
        for (let i = 0; i < random.between(3, 15); i++) {
          for (const server of servers)
            yield sender.connect(time, server, { retransmissions: SYN_RETRIES.slice(0, 2) })
          time += retry * (0.9 + random.next() / 5)
        }
        time += random.gap(90 * MINUTE)
      }
    }
  },
}

/** A printer or scanner that mails what it scanned: one server, three tries a minute apart, and the next job hours later. */
const printer: Model = {
  label: 'printer',
  exempt: false,
  receives: [0, 0],
  ownName: [0.05, 0.15],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const server = mailServer(random, 4)
    const tries = random.between(of(stage, 3, 2), of(stage, 6, 8))
    const pause = random.between(of(stage, 30, 20), of(stage, 120, 300)) * SECOND
    for (let time = start; time < start + daysOf(stage) * DAY; time += random.gap(of(stage, 2, 2.5) * HOUR)) {
      for (let i = 0; i < tries; i++) {
        yield sender.connect(time, server, { retransmissions: SYN_RETRIES.slice(0, random.between(0, 3)) })
        time += pause
      }
    }
  },
}

/** A probe that looks whether mail servers answer, at a steady beat; it sends nothing. */
const monitoringProbe: Model = {
  label: 'monitoring-probe',
  exempt: false,
  receives: [0, 0],
  ownName: [0.05, 0.15],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const servers = Array.from({ length: random.between(1, of(stage, 8, 12)) }, () => mailServer(random, 4))
    const beat = random.pick(of(stage, [60, 120, 300], [30, 60, 180, 600])) * SECOND
    for (let time = start; time < start + 6 * HOUR; time += beat) {
      for (const [index, server] of servers.entries()) {
        yield sender.connect(time + index * 200, server, { answered: true, milliseconds: 60, bytesOut: 30 })
      }
    }
  },
}

/**
 * A real mail server that nobody has exempted yet: some mails an hour, to servers it knows and to new ones; what fails is
 * tried again, later and later (Postfix: after 5 minutes, then up to 67), and its connections carry mail.
 */
const mailServerHost: Model = {
  label: 'mail-server',
  exempt: false,
  receives: [1, 1],
  ownName: [0.95, 0.85],
  family: 4,
  misbehaves: () => 0,
  connections: (stage) =>
    mailTraffic(stage, {
      known: [of(stage, 6, 4), of(stage, 20, 25)],
      minutes: [of(stage, 10, 8), of(stage, 45, 60)],
      lists: of(stage, 0.1, 0.2),
      answered: 0.97,
    }),
}

interface Mail {
  /** Servers that it knows, at least and at most; nine in ten mails are for them. */
  readonly known: readonly [number, number]
  /** Between two mails, on average. */
  readonly minutes: readonly [number, number]
  /** How many hosts have a mailing list: the same mail to many servers at once, some of which answer only later. */
  readonly lists: number
  readonly answered: number
}

function* mailTraffic(stage: Stage, { known: range, minutes, lists, answered }: Mail): Generator<Connection> {
  const { random, start } = stage
  const sender = new Sender(stage)
  const known = Array.from({ length: random.between(...range) }, () => mailServer(random, 4))
  const gap = random.between(...minutes) * MINUTE
  const due: { time: number; server: string }[] = []
  const members = random.next() < lists ? random.between(8, of(stage, 25, 40)) : 0
  for (let i = 0; i < members; i++) {
    const time = start + 10 * HOUR + i * 500
    const server = mailServer(random, 4)
    for (const wait of stage.blocked ? [0, 5, 15, 35, 75] : [0]) {
      due.push({ time: time + wait * MINUTE, server })
    }
  }
  for (let time = start + random.gap(gap); time < start + daysOf(stage) * DAY; time += random.gap(gap)) {
    const server = random.next() < 0.9 ? random.pick(known) : mailServer(random, 4)
    due.push({ time, server })
    let wait = 5 * MINUTE
    for (let again = 0, later = time + wait; again < (stage.blocked ? 8 : 0); again++) {
      due.push({ time: later, server })
      wait = Math.min(wait * 2, 67 * MINUTE)
      later += wait
    }
  }
  for (const { time, server } of due.sort((a, b) => a.time - b.time)) {
    const milliseconds = random.between(1_500, 30_000)
    yield sender.connect(time, server, {
      answered: random.next() < answered,
      milliseconds,
      bytesOut: random.between(2_000, 400_000),
    })
  }
}

/** An exempt host that sends a newsletter every few days, and little between: much at once is what it always does. */
const newsletterHost: Model = {
  label: 'newsletter-host',
  exempt: true,
  receives: [0.9, 0.8],
  ownName: [1, 0.95],
  family: 4,
  misbehaves: () => null,
  connections: (stage) => exemptTraffic(stage, null),
}

/** The same, until somebody breaks into it. */
const brokenInHost: Model = {
  label: 'broken-in-host',
  exempt: true,
  receives: [0.9, 0.8],
  ownName: [1, 0.95],
  family: 4,
  misbehaves: ({ random, half }) =>
    (half === 'train' ? 15 : 17) * DAY + random.fork('since').between(0, 12 * HOUR),
  connections(stage) {
    return exemptTraffic(stage, this.misbehaves(stage))
  },
}

const EXEMPT_DAYS = 21

function* exemptTraffic(stage: Stage, brokenIn: number | null): Generator<Connection> {
  const { random, start } = stage
  const sender = new Sender(stage)
  const readers = Array.from({ length: random.between(150, of(stage, 400, 600)) }, () =>
    mailServer(random, 4),
  )
  const every = random.between(1, of(stage, 4, 5))
  const attack = brokenIn === null ? Number.POSITIVE_INFINITY : start + brokenIn
  const share = () => Math.round(readers.length * (0.6 + random.next() * 0.4))
  for (let day = 0; day < EXEMPT_DAYS; day++) {
    const isIssue = day % every === 0
    let time = start + day * DAY + random.between(6, 9) * HOUR
    const letters = isIssue ? share() : random.between(3, 30)
    const pace = isIssue ? random.between(200, 900) : 20 * MINUTE
    for (let i = 0; i < letters && time < attack; i++) {
      yield mail(sender, random, time, readers[i % readers.length] ?? '')
      time += random.gap(pace)
    }
  }
  if (brokenIn === null) return
  let time = attack
  for (let i = 0; i < random.between(of(stage, 8, 6), of(stage, 20, 25)) * 1_000; i++) {
    yield mail(sender, random, time, mailServer(random, 4))
    time += random.gap(of(stage, 60, 80))
  }
}

function mail(sender: Sender, random: Random, time: number, to: string): Connection {
  return sender.connect(time, to, {
    answered: random.next() < 0.97,
    milliseconds: random.between(1_500, 20_000),
    bytesOut: random.between(4_000, 60_000),
  })
}

/** A family's or a club's server: a few mails a day, and who gets them often answers only at the second try. */
const smallMailServer: Model = {
  label: 'small-mail-server',
  exempt: false,
  receives: [1, 1],
  ownName: [0.7, 0.5],
  family: 4,
  misbehaves: () => 0,
  connections: (stage) =>
    mailTraffic(stage, {
      known: [of(stage, 4, 3), of(stage, 15, 20)],
      minutes: [of(stage, 90, 60), of(stage, 400, 600)],
      lists: 0,
      answered: of(stage, 0.9, 0.8),
    }),
}

/**
 * What goes out when spam is sent from where mail was sent: to a bought list, which is old. Of what Storm's campaigns
 * sent, servers took a quarter (Kanich et al. 2008); the rest meets nobody, or is refused after the envelope. In jobs,
 * some a day, or slow and low.
 */
function* spamTraffic(stage: Stage, days: number, isSlow: boolean): Generator<Connection> {
  const { random, start } = stage
  const sender = new Sender(stage)
  const reached = random.between(of(stage, 40, 30), of(stage, 85, 95)) / 100
  const taken = random.between(20, of(stage, 80, 95)) / 100
  const slow = random.between(of(stage, 4, 3), of(stage, 45, 60)) * MINUTE
  const pace = random.between(of(stage, 80, 50), of(stage, 900, 1_500))
  let time = start + random.gap(isSlow ? slow : 2 * HOUR)
  while (time < start + days * DAY) {
    for (let left = isSlow ? 1 : random.between(60, 500); left > 0; left--) {
      const answered = random.next() < reached
      const bytesOut = random.next() < taken ? random.between(500, 6_000) : random.between(60, 220)
      yield sender.connect(time, mailServer(random, 4), { answered, bytesOut: answered ? bytesOut : 0 })
      time += isSlow ? 0 : random.gap(pace)
    }
    time += random.gap(isSlow ? slow : 8 * HOUR)
  }
}

/** An office behind one address: its mail server, and a machine that was infected before anybody watched. */
const officeWithBot: Model = {
  label: 'office-with-bot',
  exempt: false,
  receives: [1, 1],
  ownName: [0.95, 0.85],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const spam = { ...stage, random: stage.random.fork('spam') }
    const isSlow = spam.random.next() < 0.5
    const all = [...mailServerHost.connections(stage), ...spamTraffic(spam, daysOf(stage), isSlow)]
    yield* all.sort((a, b) => a.time - b.time)
  },
}

/** A rented server whose web pages were broken into: it has a name, and many who look at its open port 25. */
const webServerBot: Model = {
  label: 'web-server-bot',
  exempt: false,
  receives: [0, 0],
  ownName: [0.6, 0.8],
  family: 4,
  misbehaves: () => 0,
  connections: (stage) => spamTraffic(stage, daysOf(stage), stage.random.fork('slow').next() < 0.5),
}

/** A bot whose address is on every block list: whatever it says is refused after the greeting or the envelope. */
const refusedBot: Model = {
  label: 'refused-bot',
  exempt: false,
  receives: [0, 0],
  ownName: [0, 0.05],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const pace = random.between(2, of(stage, 60, 120)) * SECOND
    let time = start
    for (let i = 0; i < random.between(of(stage, 150, 100), 2_000); i++) {
      time += random.gap(pace)
      const answered = random.next() < of(stage, 0.7, 0.85)
      const bytesOut = answered ? random.between(20, 220) : 0
      yield sender.connect(time, mailServer(random, 4), { answered, bytesOut })
    }
  },
}

/** A program that mails what it has to say to one server or some, as it was told to years ago, and is heard. */
const program: Model = {
  label: 'program',
  exempt: false,
  receives: [0, 0],
  ownName: [0.1, 0.2],
  family: 4,
  misbehaves: () => 0,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const servers = Array.from({ length: random.between(1, of(stage, 3, 4)) }, () => mailServer(random, 4))
    const pace = random.between(20, of(stage, 300, 500)) * MINUTE
    for (let time = start + random.gap(pace); time < start + daysOf(stage) * DAY; time += random.gap(pace)) {
      const answered = random.next() < of(stage, 0.95, 0.9)
      const bytesOut = answered ? random.between(500, 9_000) : 0
      const retransmissions = stage.blocked ? SYN_RETRIES.slice(0, 2) : []
      yield sender.connect(time, random.pick(servers), { answered, bytesOut, retransmissions })
    }
  },
}

/** Somebody who tried the port by hand, and found out. */
const triedOnce: Model = {
  label: 'tried-once',
  exempt: false,
  receives: [0, 0],
  ownName: [0.1, 0.2],
  family: 4,
  misbehaves: () => null,
  *connections(stage) {
    const { random, start } = stage
    const sender = new Sender(stage)
    const server = mailServer(random, 4)
    for (let i = 0; i < random.between(1, 2); i++) {
      yield sender.connect(start + (10 + i * 60) * SECOND, server, { retransmissions: [] })
    }
  },
}

export const MODELS: readonly Model[] = [
  burstyBot,
  slowBot,
  fewTargetBot,
  rotatingBot,
  scanner,
  mailClient,
  printer,
  monitoringProbe,
  mailServerHost,
  newsletterHost,
  brokenInHost,
  smallMailServer,
  officeWithBot,
  webServerBot,
  refusedBot,
  program,
  triedOnce,
]

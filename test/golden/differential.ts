/**
 * The differential proof: random policies and packets, and what the kernel does with them, against what the reference
 * verdict says. Every packet is sent once, in a namespace, through the real rules. What was let through is answered and
 * speaks on, as a connection does; what was not tries to speak all the same.
 */
import type { Exchange, Step, Tap } from '../../scripts/lab/wire.ts'
import { compile } from '../../src/compile/compile.ts'
import { DEFAULT_COMPILE_OPTIONS } from '../../src/compile/options.ts'
import type { Model } from '../../src/policy/model.ts'
import { type Family, formatAddress, type Prefix } from '../../src/policy/prefix.ts'
import type { Arena } from './arena.ts'
import { type Buckets, type Expected, expectationOf, stillPasses, type TrialPacket } from './expectation.ts'
import { isGateway, sideOf } from './field.ts'
import { ethernet, FLAG, ip, PROTOCOL, type Read, readTcp, tcp, udp } from './frames.ts'
import { type Directory, endsSoon, type GatewayOptions, withEnds } from './random.ts'

export interface Trial {
  readonly directory: Directory
  readonly gateway: GatewayOptions
  readonly packets: readonly TrialPacket[]
  /** Whether refused packets are followed by more of the same connection; with small rates those would pass. */
  readonly followsRefused: boolean
}

export interface Finding {
  /** One line for each thing that is not as it must be; empty when all is well. */
  readonly faults: readonly string[]
  /** The packets that are at fault, by their index; those whose counters are wrong are not known. */
  readonly culprits: readonly number[]
  readonly expected: readonly Expected[]
  /** How many packets got a verdict. */
  readonly verdicts: number
}

export type Compile = typeof compile

/** Milliseconds that a wave may take where a program's own TCP might send its SYN again after a second. */
const ONE_SYN_MS = 900
const MOST_TRIES = 20
/** How long before something ends the packets are sent that must still pass. */
const BEFORE_END_MS = 60

/** Tries a policy directory out. A wave of packets that met a change of the time, or a pause, is sent again. */
export async function check(arena: Arena, trial: Trial, compiler: Compile = compile): Promise<Finding> {
  for (let tries = 1; ; tries++) {
    const attempt = new Check(arena, trial, compiler)
    const finding = await attempt.run().finally(() => attempt.close())
    if (finding !== null) return finding
    if (tries === MOST_TRIES)
      throw new Error(`the machine is too busy: ${tries} tries without a clear result`)
  }
}

/** A packet that was sent, and what is known of it. */
interface Sent {
  readonly index: number
  readonly packet: TrialPacket
  readonly expected: Expected
  readonly sport: number
  /** Found where it must be, so that the connection goes on. */
  open: boolean
  seq: number
}

/** Each connection of a trial has a port of its own, above all that are connected to: by it its packets are known. */
const FIRST_PORT = 3_000
let lastPort = FIRST_PORT
const freshPort = () => {
  lastPort = lastPort >= 65_000 ? FIRST_PORT : lastPort + 1
  return lastPort
}
let lastMark = 0n

class Check {
  readonly #arena: Arena
  readonly #trial: Trial
  readonly #compiler: Compile
  readonly #faults: string[] = []
  readonly #culprits = new Set<number>()
  readonly #expected: Expected[] = []
  readonly #counts = new Map<string, number>()
  readonly #buckets: Buckets = new Map()
  readonly #local: number[] = []

  constructor(arena: Arena, trial: Trial, compiler: Compile) {
    this.#arena = arena
    this.#trial = trial
    this.#compiler = compiler
  }

  /** Closes what programs of the gateway have opened. */
  close(): void {
    this.#arena.wire.forget(this.#local)
  }

  /** null: something beyond our power spoilt it. */
  async run(): Promise<Finding | null> {
    const { directory, gateway, packets } = this.#trial
    const ending = endsSoon(directory)
    // Just far enough away for the ruleset to be there first.
    const end = (Math.floor((Date.now() + 250) / 1_000) + 1) * 1_000
    const model = await this.#arena.load(ending ? withEnds(directory, end) : directory)
    const { uids } = this.#arena
    const ruleset = this.#compiler(model, { ...DEFAULT_COMPILE_OPTIONS, ...gateway, uids })
    await this.#arena.apply(ruleset)
    if (ending && Date.now() > end - BEFORE_END_MS) return null
    const sent = await this.#connect(model)
    if (sent === null) return null
    if (!(await this.#converse(model, sent))) return null
    if (ending) {
      if (Date.now() >= end) return null
      await new Promise((resolve) => setTimeout(resolve, end - Date.now() + 2))
      if (!(await this.#converse(model, sent))) return null
      const again = await this.#connect(model)
      if (again === null || !(await this.#converse(model, again))) return null
    }
    const counted = await this.#arena.counted(ruleset)
    for (const name of new Set([...counted.keys(), ...this.#counts.keys()])) {
      const [found, wanted] = [counted.get(name) ?? 0, this.#counts.get(name) ?? 0]
      if (found !== wanted) this.#faults.push(`${name} is counted ${found} times, not ${wanted}`)
    }
    return {
      faults: this.#faults,
      culprits: [...this.#culprits],
      expected: this.#expected,
      verdicts: packets.length * (ending ? 2 : 1),
    }
  }

  /** The first packet of each connection, and the answers to those that arrived. */
  async #connect(model: Model): Promise<Sent[] | null> {
    const { packets, gateway } = this.#trial
    const now = Date.now()
    const sent = packets.map((packet, index): Sent => {
      const expected = expectationOf(model, gateway, packet, now, this.#buckets)
      for (const name of expected.counted) this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
      this.#expected.push(expected)
      return { index, packet, expected, sport: freshPort(), open: false, seq: 0 }
    })
    this.#local.push(...local(sent))
    const opening = await this.#exchange(
      sent.map((one) => this.#opening(one)),
      model,
      now,
    )
    if (opening === null) return null
    const arrived = forward(opening, FLAG.syn)
    const refused = new Set(
      backward(opening).flatMap(({ read }) => (read.flags & FLAG.rst ? read.dport : [])),
    )
    for (const one of sent) {
      const landed = arrived.get(one.sport) ?? []
      const own = opening.local.get(one.sport)
      const how =
        landed.length > 0
          ? landed.map(where).join(' and ')
          : refused.has(one.sport) || own === 'ECONNREFUSED'
            ? 'reset'
            : 'dropped'
      const wanted = outcomeOf(one)
      if (how !== wanted) this.#blame(one, `${how}, not ${wanted}`)
      one.open = how === wanted && one.expected.outcome === 'passes'
      one.seq = landed[0]?.read.seq ?? 0
    }
    // Before the kernel sends their SYN again.
    this.#arena.wire.forget(local(sent.filter(({ open }) => !open)))
    const answered = await this.#answer(model, sent, now)
    return answered && Date.now() - now < ONE_SYN_MS ? sent : null
  }

  /** What was let through is answered, and the answer must come back as if from where it was meant to go. */
  async #answer(model: Model, sent: readonly Sent[], now: number): Promise<boolean> {
    const answered = sent.filter(({ open }) => open)
    const answers = await this.#exchange(
      answered.map(({ packet, expected, sport, seq }): Step => {
        const ends = { source: expected.at, destination: packet.source }
        const segment = { sport: packet.port, dport: sport, flags: FLAG.syn | FLAG.ack, seq: 9, ack: seq + 1 }
        const side = sideOf(expected.at)
        return { side, frame: ethernet(side, ip(ends, PROTOCOL.tcp, tcp(ends, segment))) }
      }),
      model,
      now,
    )
    if (answers === null) return false
    const returned = new Map(backward(answers).map((one) => [one.read.dport, one]))
    for (const one of answered) {
      const { packet, sport } = one
      const wanted = `${formatAddress(packet.destination)} to ${sideOf(packet.source)} ${formatAddress(packet.source)}`
      const found = returned.get(sport)
      const how = isGateway(packet.source)
        ? answers.local.get(sport) === 'connected'
          ? wanted
          : answers.local.get(sport)
        : found && `${sender(found.read)} to ${where(found)}`
      if (how !== wanted) this.#blame(one, `answered ${how ?? 'nowhere'}, not ${wanted}`)
    }
    return true
  }

  /** A packet of each connection that is none of its first: it goes where the connection does, or nowhere. */
  async #converse(model: Model, sent: readonly Sent[]): Promise<boolean> {
    const { gateway, followsRefused } = this.#trial
    // Programs' own TCP has said what it had to say.
    const speakers = sent.filter(({ packet, open }) => !isGateway(packet.source) && (open || followsRefused))
    const now = Date.now()
    const spoken = await this.#exchange(
      speakers.map(({ packet, sport, seq }): Step => {
        const segment = { sport, dport: packet.port, flags: FLAG.ack | FLAG.psh, seq: seq + 1, ack: 10 }
        const side = sideOf(packet.source)
        return { side, frame: ethernet(side, ip(packet, PROTOCOL.tcp, tcp(packet, segment))) }
      }),
      model,
      now,
    )
    if (spoken === null) return false
    const arrived = forward(spoken, FLAG.psh)
    for (const one of speakers) {
      const { packet, expected, open } = one
      const redirected = expected.because === 'redirect'
      const passes = open && (redirected || stillPasses(model, gateway, packet, now))
      const landed = (arrived.get(one.sport) ?? []).map(where).join(' and ')
      const wanted = passes ? `${sideOf(expected.at)} ${formatAddress(expected.at)}` : ''
      // Who should have passed from the start, and did not, has been blamed for it.
      if (landed !== wanted && (open || expected.outcome !== 'passes')) {
        this.#blame(one, `a later packet comes to ${landed || 'nowhere'}, not ${wanted || 'nowhere'}`)
      }
    }
    return true
  }

  #opening({ packet, sport }: Sent): Step {
    const { source, destination, port, user } = packet
    if (isGateway(source)) {
      const uid = user === null ? 0 : (this.#arena.uids.get(user) ?? 0)
      return { local: { from: formatAddress(source), sport, to: formatAddress(destination), port, uid } }
    }
    const side = sideOf(source)
    const segment = tcp(packet, { sport, dport: port, flags: FLAG.syn, seq: sport * 7 })
    return { side, frame: ethernet(side, ip(packet, PROTOCOL.tcp, segment)) }
  }

  /** null when the time passed the end of an exemption meanwhile, or it took too long. */
  async #exchange(steps: readonly Step[], model: Model, now: number): Promise<Exchange | null> {
    const done = await this.#arena.wire.exchange(steps, lastFrame())
    const ended = model.exemptions.some(
      ({ expires }) => expires !== null && expires > now && expires <= done.after,
    )
    return ended || done.after - done.before > ONE_SYN_MS ? null : done
  }

  #blame({ index, packet, expected }: Sent, what: string): void {
    const { source, destination, port, user } = packet
    const by = isGateway(source) ? `${user ?? 'root'}@` : ''
    const from = `${by}${formatAddress(source)}`
    this.#culprits.add(index)
    this.#faults.push(`${from} to ${formatAddress(destination)} port ${port} (${expected.because}): ${what}`)
  }
}

/** The connections that programs of the gateway itself make. */
function local(sent: readonly Sent[]): number[] {
  return sent.flatMap(({ packet, sport }) => (isGateway(packet.source) ? [sport] : []))
}

interface Seen {
  readonly at: Tap
  readonly read: Read
}

/** TCP from our ports with that flag, by port. */
function forward({ arrived }: Exchange, flag: number): Map<number, Seen[]> {
  const found = new Map<number, Seen[]>()
  for (const seen of tcpOf(arrived)) {
    if ((seen.read.flags & flag) === 0 || (seen.read.flags & (FLAG.rst | FLAG.fin)) !== 0) continue
    found.set(seen.read.sport, [...(found.get(seen.read.sport) ?? []), seen])
  }
  return found
}

/** TCP to our ports. */
function backward({ arrived }: Exchange): Seen[] {
  return tcpOf(arrived).filter(({ read }) => read.dport >= FIRST_PORT)
}

function tcpOf(arrived: Exchange['arrived']): Seen[] {
  return arrived.flatMap(({ at, frame }) => {
    if (at === 'gateway') return []
    const read = readTcp(frame)
    return read === null ? [] : [{ at, read }]
  })
}

function where({ at, read }: Seen): string {
  return `${at} ${text(read.family, read.destination)}`
}

function sender({ family, source }: Read): string {
  return text(family, source)
}

function text(family: Family, address: number | bigint): string {
  return formatAddress({ family, address, length: family === 4 ? 32 : 128 } as Prefix)
}

function outcomeOf({ expected: { outcome, at } }: Sent): string {
  return outcome === 'passes' ? `${sideOf(at)} ${formatAddress(at)}` : outcome
}

/** A datagram that no policy can have an opinion on, with a mark that no other has. */
export function lastFrame(): Buffer {
  const source = { family: 4, address: 0x64400001, length: 32 } as const
  const destination = { family: 4, address: 0xcb007101, length: 32 } as const
  const mark = Buffer.alloc(8)
  mark.writeBigUInt64BE(0xe25e25e2n * 2n ** 32n + ++lastMark)
  const ends = { source, destination }
  return ethernet('subscribers', ip(ends, PROTOCOL.udp, udp(ends, 9, 9, mark)))
}

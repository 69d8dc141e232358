/**
 * Trials in a row, and figures about them. A seed says which trials there are; the clock only says when one that needs
 * the end of a second has its turn.
 */
import fc from 'fast-check'
import type { Model } from '../../src/policy/model.ts'
import type { Prefix } from '../../src/policy/prefix.ts'
import type { Arena } from './arena.ts'
import { type Compile, check, type Finding, type Trial } from './differential.ts'
import type { Expected, TrialPacket } from './expectation.ts'
import { isGateway } from './field.ts'
import {
  type Directory,
  directoriesOf,
  edgesAround,
  edgesOf,
  endsSoon,
  gateways,
  withEnds,
  withLargeRates,
  withSmallRates,
} from './random.ts'

/**
 * `plain`: rates that nothing uses up; `rates`: small ones, and few senders; `ending`: exemptions end meanwhile, and all
 * is tried before and after.
 */
export type Kind = 'plain' | 'rates' | 'ending'

export interface CampaignOptions {
  readonly seed: number
  /** When to stop: asked after each trial. */
  readonly isOver: (figures: Figures) => boolean
  /** Of the next directories; default 1. */
  readonly size?: (figures: Figures) => number
  readonly packets?: number
  /** Which kinds; default all. */
  readonly kinds?: readonly Kind[]
  readonly compiler?: Compile
  /** Called now and then. */
  readonly onProgress?: (figures: Figures) => void
}

/** How many there were of everything: `directories`, `packets`, each verdict, kind and option. */
export type Figures = Record<string, number>

export interface Disagreement {
  readonly kind: Kind
  readonly trial: Trial
  readonly finding: Finding
}

/** Runs until it is over or until the kernel and the reference disagree. */
export async function campaign(
  arena: Arena,
  options: CampaignOptions,
): Promise<{ figures: Figures; disagreement: Disagreement | null }> {
  const { seed, isOver, size = () => 1, packets = 200, kinds = KINDS, compiler } = options
  const figures: Figures = { directories: 0, packets: 0 }
  const sources = new Map(kinds.map((kind) => [kind, trials(seed, kind)]))
  const others = kinds.some((kind) => kind !== 'ending') ? kinds.filter((kind) => kind !== 'ending') : kinds
  for (let n = 0; !isOver(figures); n++) {
    const turn = kinds.includes('ending') && isTurnOfEnding() ? 'ending' : others[n % others.length]!
    const { directory, gateway, random } = sources.get(turn)!.next(size(figures))
    const model = await arena.load(atSomeTime(directory))
    const trial: Trial = {
      directory,
      gateway,
      packets: turn === 'rates' ? fewSenders(model, random, packets) : anySenders(model, random, packets),
      followsRefused: turn !== 'rates',
    }
    const finding = await check(arena, trial, compiler)
    count(figures, turn, trial, finding)
    if (finding.faults.length > 0) return { figures, disagreement: { kind: turn, trial, finding } }
    options.onProgress?.(figures)
  }
  return { figures, disagreement: null }
}

const KINDS: readonly Kind[] = ['plain', 'plain', 'plain', 'rates', 'ending']

/** Just far enough before the end of a second, which is when exemptions can end: the wait is short. */
function isTurnOfEnding(): boolean {
  const since = Date.now() % 1_000
  return since > 550 && since < 745
}

/** What ends within the run has its time later: until then any will do, to know whose edges there are. */
function atSomeTime(directory: Directory): Directory {
  return endsSoon(directory) ? withEnds(directory, Date.parse('2099-01-01T00:00:00Z')) : directory
}

const BLOCK = 50

/** The trials of one kind, in an order that follows from the seed. */
function trials(seed: number, kind: Kind) {
  let made = 0
  let lastSize = 0
  let block: (readonly [Directory, Trial['gateway'], number])[] = []
  return {
    next(size: number) {
      if (block.length === 0 || size !== lastSize) {
        lastSize = size
        const directories = directoriesOf({ size, ending: kind === 'ending' }).map((directory) =>
          kind === 'rates' ? withSmallRates(directory) : withLargeRates(directory),
        )
        const each = fc.tuple(directories, gateways, fc.nat())
        block = fc.sample(each, { seed: (seed + ++made) | 0, numRuns: BLOCK })
      }
      const [directory, gateway, number] = block.shift()!
      return { directory, gateway, random: generator(number) }
    },
  }
}

/** Random numbers below a bound (mulberry32). */
type Random = (bound: number) => number

function generator(seed: number): Random {
  let state = seed
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound
  }
}

const OTHER_PORTS = [24, 26, 465, 587, 2525]
const USERS = [null, 'daemon', 'nobody']

/** Packets between the edges of all prefixes of the model. */
function anySenders(model: Model, random: Random, count: number): TrialPacket[] {
  const edges = edgesOf(model)
  return someOf(edges, edges, random, count)
}

/** Packets from few sources, most of which have a rate, so that rates are used up. */
function fewSenders(model: Model, random: Random, count: number): TrialPacket[] {
  const rated = model.exemptions.filter(({ rate }) => rate !== null)
  const sources = edgesAround(rated.flatMap((one) => [...one.sources]))
  const all = edgesOf(model)
  const destinations = [...all, ...edgesAround(rated.flatMap((one) => [...(one.destinations ?? [])]))]
  const senders = Array.from({ length: 8 }, () => pick(sources.length > 0 ? sources : all, random))
  return someOf([...senders, pick(all, random)], destinations, random, count)
}

function someOf(
  sources: readonly Prefix[],
  destinations: readonly Prefix[],
  random: Random,
  count: number,
): TrialPacket[] {
  const others = (family: number) =>
    destinations.filter((address) => address.family === family && !isGateway(address))
  const byFamily = { 4: others(4), 6: others(6) }
  return Array.from({ length: count }, () => {
    const source = pick(sources, random)
    const destination = pick(byFamily[source.family], random)
    const port = random(10) === 0 ? pick(OTHER_PORTS, random) : 25
    return { source, destination, port, user: isGateway(source) ? pick(USERS, random) : null }
  })
}

function pick<T>(all: readonly T[], random: Random): T {
  return all[random(all.length)]!
}

function count(figures: Figures, kind: Kind, trial: Trial, { expected, verdicts }: Finding): void {
  const add = (what: string, more = 1) => {
    figures[what] = (figures[what] ?? 0) + more
  }
  const { directory, gateway, packets } = trial
  add('directories')
  add('packets', verdicts)
  add(`directories ${kind}`)
  for (const what of documentKinds(directory)) add(`directories with ${what}`)
  if (gateway.hooks.length < 2) add(`directories ${gateway.hooks[0]} only`)
  if (gateway.outsideInterfaces.length > 0) add('directories with outside interfaces')
  for (const [index, one] of expected.entries()) {
    const { source, port } = packets[index % packets.length]!
    add(`IPv${source.family}`)
    add(isGateway(source) ? 'from the gateway' : 'forwarded')
    add(one.because)
    if (port === 25) add(one.outcome)
  }
  for (const change of changes(expected, packets.length)) add(`ended: ${change}`)
}

function documentKinds({ documents, files }: Directory): Set<string> {
  const found = new Set(documents.map(({ kind }) => kind))
  if (files.size > 0) found.add('list file')
  return found
}

/** What packets met before an end and after it, where it is not the same. */
function changes(expected: readonly Expected[], packets: number): string[] {
  return expected.slice(packets).flatMap((after, index) => {
    const before = expected[index]!
    return before.because === after.because ? [] : [`${before.because} to ${after.because}`]
  })
}

/** The only place that starts `nft`. */
import type { AppliedLog } from '../compile/applied-log.ts'
import { APPLIED_MAP, ERA, TABLE, TOTALS_SET } from '../compile/nft/names.ts'
import type { Counter, LearnedElement } from '../compile/remembered.ts'
import { KernelError } from './kernel-error.ts'
import { LockedError } from './lock.ts'
import { endOf, requireNft } from './nft-version.ts'
import { OwnChanges } from './own-changes.ts'
import { ProcessError, type ProcessResult, type ProcessRunner } from './process.ts'

/** What our table says of itself. */
export interface KernelState {
  /** The digest of the ruleset that was applied; null when it was never, or only half, written. */
  readonly digest: string | null
  /** Where the table stands; null together with the digest. */
  readonly log: AppliedLog | null
  /** Packets by the id of the total. */
  readonly totals: ReadonlyMap<number, number>
  /** The same with bytes. */
  readonly counters: ReadonlyMap<number, Counter>
}

export interface Nft {
  /**
   * Carries out a script in one transaction. While it runs, nft holds flock(2) on the folder, if there is one, and goes on
   * holding it should this process be killed: so others can tell, and come after it.
   * @throws KernelError
   */
  apply(script: string, folder?: string | null): Promise<void>
  /** Reads the two small sets of our table; null when there is no table. @throws KernelError */
  readState(): Promise<KernelState | null>
  /** Packets counted for one element of a learned set; null when it is not there. @throws KernelError */
  readCounter(set: string, address: string): Promise<number | null>
  /** Every element of a learned set of counters; none when there is no such set. @throws KernelError */
  readLearned(set: string): Promise<readonly LearnedElement[]>
  /** Which of the announced transactions were sent from here. */
  readonly own: OwnChanges
}

/** A million elements take some seconds on a quiet machine, and a gateway is not always quiet. */
const TIMEOUTS = { apply: 300_000, read: 20_000 }

/** nft itself, by the same process id, once it has the lock; for seconds, since who asks has waited for others before. */
const IN_TURN = ['flock', '--no-fork', '--wait', '10', '--conflict-exit-code', '75'] as const
const NOT_ITS_TURN = 75
/** With which flock(1) ends when it cannot lock (sysexits.h), of itself and not by nft. */
const CANNOT_LOCK = 64

/** The timeouts are in milliseconds, for changing and for reading. */
export function openNft(run: ProcessRunner, timeouts = TIMEOUTS): Nft {
  const own = new OwnChanges()
  /** Whether the nft at hand has been found to do; looked at again whenever it fails: it may be another one by then. */
  let isChecked = false
  const nft = async (
    args: string[],
    timeout: number,
    input?: string,
    before: readonly string[] = [],
  ): Promise<ProcessResult> => {
    if (!isChecked) await requireNft(run)
    const [program = 'nft', ...rest] = [...before, 'nft', ...args]
    let changing: number | null = null
    const onStart = (pid: number) => {
      changing = pid
      own.begin(pid)
    }
    const ended = (changed: boolean) => {
      if (changing !== null) own.end(changing, changed)
    }
    try {
      const result = await run([program, ...rest], {
        timeout,
        ...(input === undefined ? {} : { input, onStart }),
      })
      ended(result.code === 0)
      isChecked = result.code === 0 || isAbsent(result)
      return result
    } catch (error) {
      // It may have changed something before it was ended.
      ended(true)
      isChecked = false
      if (!(error instanceof ProcessError)) throw error
      if (error.fault === 'missing') {
        throw new KernelError('nft-missing', `${error.message}: install the package nftables`)
      }
      throw new KernelError('no-answer', endOf(error))
    }
  }
  const list = async (kind: 'set' | 'map', name: string): Promise<ListedSet | null> => {
    const text = await listing(kind, name)
    return text === null ? null : parseSet(text)
  }
  /** nft's JSON; null when there is no such set. */
  const listing = async (kind: 'set' | 'map', name: string): Promise<string | null> => {
    const result = await nft(['-j', 'list', kind, ...TABLE.split(' '), name], timeouts.read)
    if (result.code === 0) return result.stdout
    if (isAbsent(result)) return null
    throw refusal(result)
  }
  return {
    own,
    async apply(script, folder = null) {
      const send = (before: readonly string[]) => nft(['-f', '-'], timeouts.apply, script, before)
      const result = await (folder === null ? send([]) : send([...IN_TURN, folder]))
      if (folder === null || result.code < CANNOT_LOCK) {
        if (result.code !== 0) throw refusal(result)
        return
      }
      if (result.code === NOT_ITS_TURN) throw new LockedError('an nft of an earlier change')
      // Where nothing can be locked, closing port 25 matters more.
      const again = await send([])
      if (again.code !== 0) throw refusal(again)
    },
    async readState() {
      // Two commands: nft 1.0.6 finds only the last of several sets listed at once.
      const [applied, totals] = await Promise.all([list('map', APPLIED_MAP), list('set', TOTALS_SET)])
      if (applied === null || totals === null) return null
      const counters = countersOf(totals)
      const packets = new Map([...counters].map(([id, counter]) => [id, counter.packets]))
      return { ...readApplied(applied), totals: packets, counters }
    },
    async readLearned(set) {
      const text = await listing('set', set)
      const elements: LearnedElement[] = []
      for (const { val, counter, expires = 0 } of text === null ? [] : elementsOf(text)) {
        if (typeof val === 'string') elements.push({ address: val, ...counterOf(counter), expires })
      }
      return elements
    },
    async readCounter(set, address) {
      const result = await nft(['get', 'element', ...TABLE.split(' '), set, `{ ${address} }`], timeouts.read)
      if (result.code !== 0) {
        if (isAbsent(result)) return null
        throw refusal(result)
      }
      const packets = /counter packets (\d+)/.exec(result.stdout)?.[1]
      return packets === undefined ? null : Number(packets)
    },
  }
}

function isAbsent({ stderr }: ProcessResult): boolean {
  return stderr.includes('No such file or directory')
}

function refusal({ code, stderr }: ProcessResult): KernelError {
  if (/Operation not permitted|must be root/.test(stderr)) {
    return new KernelError(
      'not-permitted',
      'the kernel refused: changing nftables needs root or CAP_NET_ADMIN',
    )
  }
  const first = stderr.split('\n').find((line) => line.includes('rror')) ?? stderr.split('\n')[0] ?? ''
  return new KernelError('refused', `nft failed with status ${code}: ${first.trim().slice(0, 300)}`)
}

interface ListedSet {
  readonly elem?: readonly unknown[]
}

function parseSet(text: string): ListedSet {
  const { nftables } = readJson(text) as { nftables: readonly { set?: ListedSet; map?: ListedSet }[] }
  return nftables.map(({ set, map }) => set ?? map).find((found) => found !== undefined) ?? {}
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new KernelError(
      'no-answer',
      `nft printed something that is not its JSON: ${(error as Error).message}`,
    )
  }
}

const ELEMENT = '{"elem":'

/**
 * The elements of a listed set, one by one: it may have a hundred thousand, and an object for each, with two more in it,
 * would be many times as large as what is wanted of them. There is no text in an element but its address.
 */
function* elementsOf(text: string): Generator<NonNullable<ListedElement['elem']>> {
  for (let at = text.indexOf(ELEMENT); at >= 0; ) {
    let end = at + 1
    for (let depth = 1; depth > 0 && end < text.length; end++) {
      const character = text[end]
      if (character === '{') depth++
      else if (character === '}') depth--
    }
    const { elem } = readJson(text.slice(at, end)) as ListedElement
    if (elem !== undefined) yield elem
    at = text.indexOf(ELEMENT, end)
  }
}

interface ListedElement {
  readonly elem?: {
    readonly val?: unknown
    readonly counter?: Partial<Counter>
    readonly expires?: number
  }
}

function countersOf({ elem = [] }: ListedSet): Map<number, Counter> {
  const counted = elem as readonly ListedElement[]
  return new Map(counted.map(({ elem: item }) => [Number(item?.val), counterOf(item?.counter)]))
}

function counterOf({ packets = 0, bytes = 0 }: Partial<Counter> = {}): Counter {
  return { packets, bytes }
}

/** Both null where the map is not as we write it. */
function readApplied({ elem = [] }: ListedSet): Pick<KernelState, 'digest' | 'log'> {
  const digests = new Map((elem as readonly unknown[]).map(readMark))
  const era = digests.get(ERA) ?? null
  digests.delete(ERA)
  const numbers = [...digests.keys()]
  const [oldest, newest] = [Math.min(...numbers), Math.max(...numbers)]
  const digest = digests.get(newest) ?? null
  if (era === null || digest === null || newest - oldest + 1 !== numbers.length) {
    return { digest: null, log: null }
  }
  return { digest, log: { era, oldest, newest } }
}

/** An element of the map: its number and 128 bits in hexadecimal; null for what is none. */
function readMark(element: unknown): [number, string | null] {
  const [key, data] = Array.isArray(element) ? (element as [unknown, { concat?: unknown }?]) : []
  const parts = data?.concat
  if (!Array.isArray(parts) || parts.length !== 4) return [Number(key), null]
  return [Number(key), parts.map((part) => Number(part).toString(16).padStart(8, '0')).join('')]
}

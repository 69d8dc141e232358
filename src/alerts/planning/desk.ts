/**
 * Makes the news of one channel into messages, as its plan says. What waits is in the database; what the plan depends on
 * is kept in memory beside it.
 */
import type { AlertMessages } from '../../store/alert-messages.ts'
import type { AlertQueue } from '../../store/alert-queue.ts'
import type { HeldBecause, SingleNews } from '../message.ts'
import { Backlog } from './backlog.ts'
import { digestOf } from './digest.ts'
import type { Facts } from './facts.ts'
import type { Handling } from './handling.ts'
import { plan } from './plan.ts'
import type { Plan, Planned, Recent } from './planner.ts'
import { UnderWay } from './under-way.ts'

export interface DeskOptions {
  readonly channel: string
  readonly gateway: string
  readonly handling: Handling
  readonly queue: AlertQueue
  readonly messages: AlertMessages
  /** All or nothing. @throws Error when the database cannot be written */
  readonly inTransaction: (work: () => void) => void
  /** The silence that holds for it; null: none. */
  readonly silenceOf: (facts: Facts, now: number) => string | null
  /** In the transaction in which the news goes. */
  readonly countSilenced: (silence: string, news: number) => void
  readonly now: () => number
  /** There are new messages. */
  readonly onMessages: () => void
  readonly onDropped: (news: number) => void
  readonly onUnwritable: (error: Error) => void
  /** Of what waits: so much at most. */
  readonly mostNews?: number
  readonly mostBytes?: number
}

/** A plan, and what it was made with. */
interface Decided extends Plan {
  readonly silences: ReadonlyMap<string, number>
  readonly dropped: number
}

const MOST_NEWS = 50_000
const MOST_BYTES = 64 * 1024 * 1024
/** Milliseconds between two looks while there is much to do. */
const PACE = 20
const RETRY = 1_000

export class Desk {
  readonly #options: DeskOptions
  readonly #backlog: Backlog
  readonly #underWay = new UnderWay()
  #held: ReadonlyMap<number, HeldBecause> = new Map()
  #recent: Recent[]
  #timer: NodeJS.Timeout | null = null
  #lookAt = Number.POSITIVE_INFINITY
  #lookedAt = Number.NEGATIVE_INFINITY
  #stopped = false

  constructor(options: DeskOptions) {
    this.#options = options
    const { channel, queue, messages, now } = options
    this.#backlog = new Backlog(channel, queue)
    this.#recent = messages
      .createdSince(channel, now() - this.#memory())
      .map((time) => ({ time, groups: [], isDigest: false }))
    for (const { id, incidents } of messages.undelivered(channel)) this.expect(id, incidents)
  }

  /** News that is held back or waits for its turn, and messages that have not arrived. */
  get waiting(): { readonly news: number; readonly held: number; readonly messages: number } {
    return { news: this.#backlog.waiting.length, held: this.#held.size, messages: this.#underWay.size }
  }

  /** There may be news, or room for it. The first look is at once; many come together. */
  wake(): void {
    this.#lookIn(Math.max(0, this.#lookedAt + PACE - this.#options.now()))
  }

  /** A message is on its way (again). */
  expect(id: number, incidents: readonly string[]): void {
    this.#underWay.add(id, incidents)
  }

  /** It is on its way no more. */
  settled(id: number): void {
    this.#underWay.remove(id)
    if (this.#backlog.waiting.length > 0) this.wake()
  }

  stop(): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  look(): void {
    if (this.#stopped) return
    try {
      this.#lookedAt = this.#options.now()
      this.#backlog.takeIn()
      this.#dropBeyondBounds()
      this.#carryOut(this.#plan())
    } catch (error) {
      this.#options.onUnwritable(error as Error)
      this.#lookIn(RETRY)
    }
  }

  #dropBeyondBounds(): void {
    const { channel, queue, inTransaction, onDropped, mostNews, mostBytes } = this.#options
    const ids = this.#backlog.beyond({ news: mostNews ?? MOST_NEWS, bytes: mostBytes ?? MOST_BYTES })
    if (ids.length === 0) return
    inTransaction(() => queue.drop(channel, ids))
    this.#backlog.remove(new Set(ids))
    onDropped(ids.length)
  }

  #plan(): Decided {
    const { channel, handling, queue, silenceOf, now } = this.#options
    const time = now()
    const dropped = queue.dropped(channel).unsaid
    this.#recent = this.#recent.filter((one) => one.time > time - this.#memory())
    const silences = new Map<string, number>()
    const isSilenced = (facts: Facts) => {
      const silence = silenceOf(facts, time)
      if (silence !== null) silences.set(silence, (silences.get(silence) ?? 0) + 1)
      return silence !== null
    }
    const state = {
      recent: this.#recent,
      undelivered: this.#underWay.size,
      busy: this.#underWay,
      dropped,
      held: this.#held,
    }
    return { ...plan(this.#backlog.waiting, state, handling, isSilenced, time), silences, dropped }
  }

  #carryOut({ messages, silenced, silences, held, lookAgain, dropped }: Decided): void {
    const { channel, queue, inTransaction, countSilenced, now, onMessages } = this.#options
    const made: [number, readonly string[]][] = []
    if (messages.length > 0 || silenced.length > 0) {
      inTransaction(() => {
        let unsaid = dropped
        for (const planned of messages) {
          const message = this.#write(planned, unsaid)
          if (planned.digest !== null) {
            queue.said(channel, unsaid)
            unsaid = 0
          }
          for (const { id } of planned.news) queue.remove(id)
          if (message !== null) made.push(message)
        }
        for (const { id } of silenced) queue.remove(id)
        for (const [silence, news] of silences) countSilenced(silence, news)
      })
      const time = now()
      const gone = new Set([...messages.flatMap(({ news }) => news), ...silenced].map(({ id }) => id))
      this.#backlog.remove(gone)
      for (const { groups, digest } of messages) {
        this.#recent.push({ time, groups, isDigest: digest !== null })
      }
      for (const [id, incidents] of made) this.expect(id, incidents)
    }
    this.#held = held
    if (lookAgain !== null) this.#lookIn(Math.max(PACE, lookAgain - now()))
    if (made.length > 0) onMessages()
  }

  /** The message's id, and what it is about; null: it was written before. */
  #write({ news, digest }: Planned, dropped: number): [number, readonly string[]] | null {
    const { channel, gateway, queue, messages, now } = this.#options
    const [first] = news
    const incidents = [...new Set(news.flatMap(({ facts: { incident } }) => (incident ? [incident.id] : [])))]
    const created = now()
    const read = (id: number) => JSON.parse(queue.read(id).body) as SingleNews
    const told =
      digest === null && first !== undefined
        ? queue.read(first.id)
        : {
            key: `digest/${gateway}/${created}/${first?.id ?? 0}`,
            body: JSON.stringify(
              digestOf(news, { gateway, now: created, because: digest ?? [], dropped, read }),
            ),
          }
    const time = first?.time ?? created
    const id = messages.add({ channel, ...told, time, created, incidents })
    return id === null ? null : [id, incidents]
  }

  #lookIn(milliseconds: number): void {
    const at = this.#options.now() + milliseconds
    if (this.#stopped || at >= this.#lookAt) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#lookAt = at
    this.#timer = setTimeout(
      () => {
        this.#lookAt = Number.POSITIVE_INFINITY
        this.look()
      },
      Math.min(milliseconds, 3_600_000),
    )
  }

  /** Milliseconds for which the plan asks what was told. */
  #memory(): number {
    const { limit, group } = this.#options.handling
    return limit === null ? 0 : Math.max(limit.per, group.wait)
  }
}

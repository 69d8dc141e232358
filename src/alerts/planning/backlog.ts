/** News of one channel that waits, as the plan reads it: in memory beside the database, in the order in which it came. */
import type { AlertQueue } from '../../store/alert-queue.ts'
import type { SingleNews } from '../message.ts'
import { factsOf } from './facts.ts'
import type { Waiting } from './planner.ts'

interface Queued extends Waiting {
  readonly bytes: number
}

export interface Bounds {
  readonly news: number
  readonly bytes: number
}

const PORTION = 1_000

export class Backlog {
  readonly #channel: string
  readonly #queue: Pick<AlertQueue, 'after'>
  #waiting: Queued[] = []
  #bytes = 0
  #lastId = 0

  constructor(channel: string, queue: Pick<AlertQueue, 'after'>) {
    this.#channel = channel
    this.#queue = queue
  }

  get waiting(): readonly Waiting[] {
    return this.#waiting
  }

  /** Reads what was left since it was read before. @throws Error when the database cannot be read */
  takeIn(): void {
    for (;;) {
      const news = this.#queue.after(this.#channel, this.#lastId, PORTION)
      for (const { id, time, body } of news) {
        this.#waiting.push({ id, time, bytes: body.length, facts: factsOf(JSON.parse(body) as SingleNews) })
        this.#bytes += body.length
        this.#lastId = id
      }
      if (news.length < PORTION) return
    }
  }

  /** What there is no room for: the oldest, because it is the least use to know. */
  beyond(bounds: Bounds): number[] {
    const ids: number[] = []
    let bytes = this.#bytes
    for (const one of this.#waiting) {
      if (this.#waiting.length - ids.length <= bounds.news && bytes <= bounds.bytes) break
      bytes -= one.bytes
      ids.push(one.id)
    }
    return ids
  }

  /** It waits no more. */
  remove(ids: ReadonlySet<number>): void {
    if (ids.size === 0) return
    this.#waiting = this.#waiting.filter(({ id }) => !ids.has(id))
    this.#bytes = this.#waiting.reduce((sum, { bytes }) => sum + bytes, 0)
  }
}

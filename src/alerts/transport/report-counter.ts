/** How many reports one address gets within a time: an outbreak must not fill the mailbox of a desk. */
import type { Memory } from '../channel.ts'
import type { MessageLimit } from '../planning/message-limit.ts'

/** A report that may be sent. */
export interface Place {
  /** There is no other one until the time is over. */
  readonly isLast: boolean
  /** Reports that were held back since that was said last. */
  readonly heldBack: number
}

interface State {
  /** When the time began, in milliseconds since the epoch. */
  readonly since: number
  readonly sent: number
  readonly held: number
}

const KEY = 'fallback'

export class ReportCounter {
  readonly #memory: Pick<Memory, 'get' | 'put'>
  readonly #limit: MessageLimit

  constructor(memory: Pick<Memory, 'get' | 'put'>, limit: MessageLimit) {
    this.#memory = memory
    this.#limit = limit
  }

  /** null: it is held back, and counted. @throws Error when that cannot be written down */
  take(now: number): Place | null {
    const { count, per } = this.#limit
    const known = this.#read()
    const state = now - known.since >= per || now < known.since ? { ...known, since: now, sent: 0 } : known
    if (state.sent >= count) {
      this.#write({ ...state, held: state.held + 1 })
      return null
    }
    this.#write({ ...state, sent: state.sent + 1 })
    return { isLast: state.sent + 1 === count, heldBack: state.held }
  }

  /** It has arrived, and said what was held back before it. */
  arrived({ heldBack }: Place): void {
    const state = this.#read()
    this.#write({ ...state, held: Math.max(0, state.held - heldBack) })
  }

  /** It could not be sent, and will be tried again. */
  giveBack(): void {
    const state = this.#read()
    this.#write({ ...state, sent: Math.max(0, state.sent - 1) })
  }

  #read(): State {
    const text = this.#memory.get(KEY)
    return text === null ? { since: 0, sent: 0, held: 0 } : (JSON.parse(text) as State)
  }

  #write(state: State): void {
    this.#memory.put(KEY, JSON.stringify(state))
  }
}

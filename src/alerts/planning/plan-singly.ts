/** For a channel without a limit: each piece of news is a message of its own, and those of an incident follow each other. */
import type { HeldBecause } from '../message.ts'
import type { ChannelState, Planned, Planner, Waiting } from './planner.ts'

/** Of a channel that wants each piece of news by itself: so many messages lie ready, the rest waits. */
const READY = 1_000

export class OneByOne implements Planner {
  readonly #state: ChannelState
  readonly #messages: Planned[] = []
  readonly #busy = new Set<string>()
  readonly #held = new Map<number, HeldBecause>()

  constructor(state: ChannelState) {
    this.#state = state
  }

  take(one: Waiting): void {
    const incident = one.facts.incident?.id ?? null
    if (incident !== null && (this.#busy.has(incident) || this.#state.busy.has(incident))) return
    if (incident !== null) this.#busy.add(incident)
    if (this.#state.undelivered + this.#messages.length < READY)
      this.#messages.push({ news: [one], groups: [], digest: null })
  }

  sleep({ id }: Waiting): void {
    this.#held.set(id, 'quiet-hours')
  }

  finish() {
    const { dropped, undelivered } = this.#state
    const messages = [...this.#messages]
    if (dropped > 0 && undelivered < READY) messages.push({ news: [], groups: [], digest: ['backlog'] })
    return { messages, held: this.#held, lookAgain: null }
  }
}

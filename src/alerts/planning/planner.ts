/** What a plan is made from, and what it says: the words of plan.ts and of the planners that it chooses among. */

import type { HeldBecause } from '../message.ts'
import type { Facts } from './facts.ts'

/** News that waits for a channel, in the order in which it came. */
export interface Waiting {
  readonly id: number
  /** When it came, in milliseconds since the epoch. */
  readonly time: number
  readonly facts: Facts
}

/** A message that was planned lately. */
export interface Recent {
  readonly time: number
  /** The groups of news that it tells of. */
  readonly groups: readonly string[]
  readonly isDigest: boolean
}

export interface ChannelState {
  /** Within the last `limit.per` and `group.wait`. */
  readonly recent: readonly Recent[]
  /** Messages that have not arrived yet. */
  readonly undelivered: number
  /** Incidents in messages that have not arrived yet. */
  readonly busy: { has(incident: string): boolean }
  /** News thrown away since it was last said. */
  readonly dropped: number
  /** News that was held at an earlier look, and why. */
  readonly held: ReadonlyMap<number, HeldBecause>
}

export interface Planned {
  readonly news: readonly Waiting[]
  readonly groups: readonly string[]
  /** null: a single piece of news, told as it is. */
  readonly digest: readonly HeldBecause[] | null
}

export interface Plan {
  readonly messages: readonly Planned[]
  readonly silenced: readonly Waiting[]
  readonly held: ReadonlyMap<number, HeldBecause>
  /** When to look again, if nothing happens before; null: no need. */
  readonly lookAgain: number | null
}

/** Decides about one piece of news after the other, in their order. */
export interface Planner {
  take(one: Waiting): void
  /** It is quiet now. */
  sleep(one: Waiting): void
  finish(): Pick<Plan, 'messages' | 'held' | 'lookAgain'>
}

/** The earlier of two times; null: never. */
export function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b)
}

/**
 * For a channel with a limit: the first news of a group comes singly, what is too much of a group or in all is held, and
 * comes together.
 */

import type { HeldBecause } from '../message.ts'
import type { Facts } from './facts.ts'
import type { Handling } from './handling.ts'
import { type ChannelState, earlier, type Planned, type Planner, type Waiting } from './planner.ts'

/** So many groups get a digest each; of more, one tells of all. */
const MOST_DIGESTS = 3

type Limited = Handling & { readonly limit: NonNullable<Handling['limit']> }

/** News that waits together, and is told together. */
interface Group {
  readonly name: string
  readonly news: Waiting[]
  readonly because: Set<HeldBecause>
}

export class Grouped implements Planner {
  readonly #state: ChannelState
  readonly #handling: Limited
  readonly #now: number
  readonly #messages: Planned[] = []
  readonly #held = new Map<number, HeldBecause>()
  /** Told of in this plan. */
  readonly #busy = new Set<string>()
  /** Incidents that wait, by the group in which their earliest news waits. */
  readonly #lanes = new Map<string, Group>()
  readonly #groups = new Map<string, Group>()
  readonly #told: Map<string, number>
  readonly #slots: number

  constructor(state: ChannelState, handling: Limited, now: number) {
    this.#state = state
    this.#handling = handling
    this.#now = now
    this.#told = new Map()
    for (const { time, groups, isDigest } of state.recent) {
      if (time <= now - handling.group.wait) continue
      for (const group of groups) this.#tell(group, isDigest ? Number.POSITIVE_INFINITY : 1)
    }
    const { count, per } = handling.limit
    const spent = state.recent.filter(({ time }) => time > now - per).length
    this.#slots = count - Math.max(spent, state.undelivered)
  }

  take(one: Waiting): void {
    const incident = one.facts.incident?.id ?? null
    if (incident !== null && (this.#state.busy.has(incident) || this.#busy.has(incident))) return
    const lane = incident === null ? undefined : this.#lanes.get(incident)
    const name = lane?.name ?? groupOf(one.facts, this.#handling.group.by)
    const because = this.#reason(one, name, lane)
    if (because !== null) {
      this.#hold(one, name, because)
      return
    }
    this.#messages.push({ news: [one], groups: [name], digest: null })
    this.#tell(name, 1)
    if (incident !== null) this.#busy.add(incident)
  }

  sleep({ id }: Waiting): void {
    this.#held.set(id, 'quiet-hours')
  }

  finish() {
    const { wait } = this.#handling.group
    const due = [...this.#groups.values()].filter(({ news }) => (news[0]?.time ?? 0) + wait <= this.#now)
    const free = this.#slots - this.#messages.length
    if (due.length > 0 && free > 0) {
      if (due.length <= Math.min(free, MOST_DIGESTS)) for (const group of due) this.#digest([group])
      else this.#digest(due)
    }
    const saysDropped = this.#messages.some(({ digest }) => digest !== null)
    if (this.#state.dropped > 0 && free > 0 && !saysDropped) {
      this.#messages.push({ news: [], groups: [], digest: ['backlog'] })
    }
    return { messages: this.#messages, held: this.#held, lookAgain: this.#lookAgain() }
  }

  #reason({ id }: Waiting, name: string, lane: Group | undefined): HeldBecause | null {
    const before = this.#state.held.get(id)
    if (lane !== undefined || before !== undefined) return before ?? [...(lane?.because ?? [])][0] ?? 'group'
    const { first } = this.#handling.group
    if (this.#groups.has(name) || (this.#told.get(name) ?? 0) >= first) return 'group'
    // The last one is for the digest of what is held.
    const { count } = this.#handling.limit
    if (this.#slots - this.#messages.length <= (count > 1 ? 1 : 0)) {
      return this.#state.undelivered >= count - 1 ? 'backlog' : 'limit'
    }
    return null
  }

  #hold(one: Waiting, name: string, because: HeldBecause): void {
    const group = this.#groups.get(name) ?? { name, news: [], because: new Set() }
    this.#groups.set(name, group)
    group.news.push(one)
    group.because.add(because)
    this.#held.set(one.id, because)
    const incident = one.facts.incident?.id
    if (incident !== undefined) this.#lanes.set(incident, group)
  }

  #digest(groups: readonly Group[]): void {
    const news = groups.flatMap((group) => group.news).sort((a, b) => a.id - b.id)
    const because = [...new Set(groups.flatMap((group) => [...group.because]))]
    this.#messages.push({
      news,
      groups: groups.map(({ name }) => name),
      digest: news.length === 1 ? null : because,
    })
    for (const { id } of news) this.#held.delete(id)
    for (const { name } of groups) this.#groups.delete(name)
  }

  #tell(group: string, times: number): void {
    this.#told.set(group, (this.#told.get(group) ?? 0) + times)
  }

  /** When the first digest is due and the limit allows a message. What waits for a delivery hears of that. */
  #lookAgain(): number | null {
    let due: number | null = null
    for (const { news } of this.#groups.values()) {
      due = earlier(due, (news[0]?.time ?? 0) + this.#handling.group.wait)
    }
    const { count, per } = this.#handling.limit
    if (due === null || this.#state.undelivered + this.#messages.length >= count) return null
    const spent = this.#state.recent.filter(({ time }) => time > this.#now - per)
    const room = count - spent.length - this.#messages.length
    const roomAt = room > 0 ? this.#now : (spent[-room]?.time ?? this.#now) + per
    return Math.max(due, roomAt)
  }
}

/** Of what one incident of many says the same. */
function groupOf({ about, incident }: Facts, by: Handling['group']['by']): string {
  if (incident === null) return about
  return [about, ...by.map((key) => incident[key] ?? '')].join(' ')
}

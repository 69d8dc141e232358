/**
 * News to messages: what is told at once, what waits, and what is told together. Pure: the clock and the state of the
 * channel are passed in, and each piece of news that comes in is told, held or silenced, and never lost.
 *
 *   fresh ──┬─ first of its group, and the limit allows ──────────────► a message of its own
 *           ├─ too many of its group, or in all; quiet hours ─► held ──► one digest, after group.wait or quiet hours
 *           └─ its incident is in a message that has not arrived yet ─► later: the order of an incident is kept
 */
import type { Facts } from './facts.ts'
import type { Handling, QuietHours } from './handling.ts'
import type { HeldBecause } from './message.ts'
import { isQuiet, quietFor } from './quiet-hours.ts'
import { isAtLeast } from './severity.ts'

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

/** Of a channel that wants each piece of news by itself: so many messages lie ready, the rest waits. */
const READY = 1_000
/** So many groups get a digest each; of more, one tells of all. */
const MOST_DIGESTS = 3

export function plan(
  waiting: readonly Waiting[],
  state: ChannelState,
  handling: Handling,
  isSilenced: (facts: Facts) => boolean,
  now: number,
): Plan {
  const silenced: Waiting[] = []
  const left: Waiting[] = []
  for (const one of waiting) (isSilenced(one.facts) ? silenced : left).push(one)
  const quiet = quietNow(left, handling.quietHours, now)
  // That something was lost is no reason to wake people either.
  const known = quiet === null ? state : { ...state, dropped: 0 }
  const planner =
    handling.limit === null
      ? new OneByOne(known)
      : new Grouped(known, { ...handling, limit: handling.limit }, now)
  const sleeping = new Set<string>()
  for (const one of left) {
    const incident = one.facts.incident?.id ?? null
    if (incident !== null && sleeping.has(incident)) planner.sleep(one)
    else if (quiet?.(one.facts) === true) {
      if (incident !== null) sleeping.add(incident)
      planner.sleep(one)
    } else planner.take(one)
  }
  const { messages, held, lookAgain } = planner.finish()
  const morning =
    handling.quietHours !== null && quiet !== null ? now + quietFor(handling.quietHours, now) : null
  return {
    messages,
    silenced,
    held,
    lookAgain: earlier(lookAgain, held.size > 0 || sleeping.size > 0 ? morning : null),
  }
}

/** What must wait because it is quiet now; null: it is not. What wakes people wakes them for the whole incident. */
function quietNow(
  news: readonly Waiting[],
  hours: QuietHours | null,
  now: number,
): ((facts: Facts) => boolean) | null {
  if (hours === null || !isQuiet(hours, now)) return null
  const { except } = hours
  if (except === null) return () => true
  const loud = new Set<string>()
  for (const { facts } of news) {
    if (facts.incident !== null && isAtLeast(facts.severity, except)) loud.add(facts.incident.id)
  }
  return ({ severity, incident }) =>
    !isAtLeast(severity, except) && (incident === null || !loud.has(incident.id))
}

interface Planner {
  take(one: Waiting): void
  /** It is quiet now. */
  sleep(one: Waiting): void
  finish(): Pick<Plan, 'messages' | 'held' | 'lookAgain'>
}

class OneByOne implements Planner {
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

type Limited = Handling & { readonly limit: NonNullable<Handling['limit']> }

/** News that waits together, and is told together. */
interface Group {
  readonly name: string
  readonly news: Waiting[]
  readonly because: Set<HeldBecause>
}

class Grouped implements Planner {
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

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b)
}

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
import { Grouped } from './plan-grouped.ts'
import { OneByOne } from './plan-singly.ts'
import { type ChannelState, earlier, type Plan, type Waiting } from './planner.ts'
import { isQuiet, quietFor } from './quiet-hours.ts'
import { isAtLeast } from './severity.ts'

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

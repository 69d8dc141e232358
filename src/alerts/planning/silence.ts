/** Maintenance: news that is not told for a while, because somebody said so. It is counted. Pure. */
import { type Concern, concerns, type Facts } from './facts.ts'

export interface Silence {
  readonly id: string
  /** Milliseconds since the epoch; the end is no part of it. */
  readonly from: number
  readonly until: number
  /** Which channels; empty: all. */
  readonly channels: readonly string[]
  readonly concern: Concern
  /** Also what is about no incident. */
  readonly everything: boolean
  readonly reason: string | null
  readonly by: string
}

/**
 * Whether it holds for news to a channel. The end of an incident is told where its beginning was, so that nobody waits
 * for it.
 */
export function isSilencedBy(silence: Silence, channel: string, facts: Facts, now: number): boolean {
  const { from, until, channels, concern, everything } = silence
  if (now < from || now >= until) return false
  if (channels.length > 0 && !channels.includes(channel)) return false
  if (facts.incident === null) return everything
  if (facts.event === 'resolved' && facts.incident.firstSeen < from) return false
  return concerns(facts.incident, concern)
}

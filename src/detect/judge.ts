/** What a machine's recent attempts say about it. */
import type { Thresholds } from '../policy/model.ts'
import type { Confidence, IncidentKind } from './incident.ts'
import type { SlidingWindow } from './sliding-window.ts'

export interface Judgement {
  readonly kind: IncidentKind
  readonly confidence: Confidence
}

export interface Evidence {
  /** As long as the policy's window for spam-bots. */
  readonly short: Pick<SlidingWindow, 'attempts' | 'destinations' | 'connections'>
  /** As long as the policy's window for misconfigured clients. */
  readonly long: Pick<SlidingWindow, 'attempts' | 'destinations' | 'connections'>
}

/** So many times the threshold leave no doubt. */
const DEFINITE = 3

/**
 * A spam-bot tries many mail servers in a short time. A misconfigured client tries few, again and again: the same
 * number of attempts spread over as many servers is the start of something else, and not judged yet.
 */
export function judge({ short, long }: Evidence, { spamBot, misconfigured }: Thresholds): Judgement | null {
  if (short.attempts >= spamBot.attempts && short.destinations >= spamBot.destinations) {
    const beyondDoubt =
      short.attempts >= DEFINITE * spamBot.attempts && short.destinations >= DEFINITE * spamBot.destinations
    return { kind: 'spam-bot', confidence: beyondDoubt ? 'definite' : 'likely' }
  }
  const patient = long.connections >= 2 && long.attempts >= 2 * long.destinations
  if (long.attempts >= misconfigured.attempts && long.destinations < spamBot.destinations && patient) {
    return { kind: 'misconfigured-client', confidence: 'likely' }
  }
  return null
}

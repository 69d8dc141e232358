/** What a machine's recent attempts say about it. docs/detection.md tells users the same. */
import type { Thresholds } from '../policy/model.ts'
import type { Confidence, Evidence, IncidentKind } from './incident.ts'
import { DEFINITE, MOST_DISTINCT, type Span, type Traits } from './traits.ts'

export interface Judgement {
  readonly kind: IncidentKind
  readonly confidence: Confidence
  readonly evidence: Evidence
}

/** Of destinations next to each other there must be so many among all: the rest may be chance. */
const NEIGHBOURS_SHARE = 0.8
/** A program that delivers mail tries each server again and again; malware hardly ever does. */
const HARDLY_TWICE = 2
/** A machine that was watched for less than this part of a window has not been slow. */
const SHORT = 24
/** Of a patient program's connections in the long run, so many to each destination on average. */
const AGAIN_AND_AGAIN = 3
/** So many times the attempts that are too many in the short run, in the long run. */
const LONG_RUN = 3
/** Milliseconds after which what still goes on is no passing fault. */
const HOURS = 7_200_000
/** Milliseconds between two readings of the kernel's counters. */
const MINUTE = 60_000

/** null: nothing that is worth a word. The first rule that applies speaks. */
export function judge(traits: Traits, thresholds: Thresholds): Judgement | null {
  return scanner(traits, thresholds) ?? spamBot(traits, thresholds) ?? misconfigured(traits, thresholds)
}

/** Mail servers are spread over the world. Who tries address after address looks for them. */
function scanner({ scan, sources }: Traits, { scanner }: Thresholds): Judgement | null {
  const threshold = Math.min(scanner.destinations, MOST_DISTINCT)
  if (scan.neighbours < threshold || scan.neighbours < NEIGHBOURS_SHARE * scan.destinations) return null
  return {
    kind: 'scanner',
    confidence: confidence(scan.neighbours >= Math.min(DEFINITE * threshold, MOST_DISTINCT)),
    evidence: evidence('neighbours', scan, sources, { destinations: scanner.destinations }),
  }
}

/** Malware meets ever new mail servers, or a few with more connections than any patient program makes. */
function spamBot({ fast, slow, sources, age }: Traits, { spamBot, slowBot }: Thresholds): Judgement | null {
  const kind = 'spam-bot'
  const { attempts, connections } = spamBot
  const destinations = Math.min(spamBot.destinations, MOST_DISTINCT)
  if (fast.attempts >= attempts && fast.destinations >= destinations) {
    const beyondDoubt =
      fast.attempts >= DEFINITE * attempts &&
      fast.destinations >= Math.min(DEFINITE * destinations, MOST_DISTINCT)
    const limits = { attempts, destinations: spamBot.destinations }
    return {
      kind,
      confidence: confidence(beyondDoubt),
      evidence: evidence('fan-out', fast, sources, limits),
    }
  }
  if (fast.connections >= connections && fast.destinations >= 2) {
    return {
      kind,
      confidence: confidence(fast.connections >= DEFINITE * connections),
      evidence: evidence('hammering', fast, sources, { connections, destinations: 2 }),
    }
  }
  const many = Math.min(slowBot.destinations, MOST_DISTINCT)
  // Within a short time the numbers above are the measure.
  const isSlow = age >= slowBot.window / SHORT
  if (isSlow && slow.destinations >= many && slow.connections <= HARDLY_TWICE * slow.destinations) {
    return {
      kind,
      confidence: confidence(slow.destinations >= Math.min(DEFINITE * many, MOST_DISTINCT)),
      evidence: evidence('slow-fan-out', slow, sources, { destinations: slowBot.destinations }),
    }
  }
  return null
}

/**
 * A program or device that was set up for port 25 tries few servers, again and again: the same number of attempts
 * spread over as many servers is the start of something else, and not judged yet.
 */
function misconfigured(
  { patient, slow, sources, age }: Traits,
  { spamBot, misconfigured: { attempts } }: Thresholds,
): Judgement | null {
  const kind = 'misconfigured-client'
  const { destinations } = spamBot
  const often = slow.connections >= LONG_RUN * attempts
  const faithful = slow.connections >= AGAIN_AND_AGAIN * slow.destinations
  if (often && faithful && slow.destinations < DEFINITE * destinations) {
    const beyondDoubt =
      age >= HOURS && slow.connections >= DEFINITE * LONG_RUN * attempts && slow.destinations < destinations
    return {
      kind,
      confidence: confidence(beyondDoubt),
      evidence: evidence('retries', slow, sources, { connections: LONG_RUN * attempts, destinations }),
    }
  }
  const again = patient.connections >= 2 && patient.attempts >= 2 * patient.destinations
  if (patient.attempts >= attempts && patient.destinations < destinations && again) {
    return {
      kind,
      confidence: 'likely',
      evidence: evidence('retries', patient, sources, { attempts, destinations }),
    }
  }
  return null
}

/**
 * What only the kernel's counter says: so many attempts within a minute, of so many in all that it has counted of the
 * machine, are too many for anything but malware. `destinations` are those that were told.
 */
export function judgeByCount(
  attempts: number,
  counted: number,
  destinations: number,
  { spamBot }: Thresholds,
): Judgement {
  return {
    kind: 'spam-bot',
    confidence: 'likely',
    evidence: {
      rule: 'count',
      window: MINUTE,
      attempts,
      connections: Math.min(attempts, counted),
      destinations,
      sources: 1,
      limits: { attempts: manyByCount(spamBot) },
      usual: null,
    },
  }
}

/** So many attempts within a minute speak for themselves. */
export function manyByCount({ connections, attempts }: Thresholds['spamBot']): number {
  return Math.max(connections, attempts)
}

function confidence(beyondDoubt: boolean): Confidence {
  return beyondDoubt ? 'definite' : 'likely'
}

function evidence(
  rule: Evidence['rule'],
  { window, attempts, connections, destinations }: Span,
  sources: number,
  limits: Evidence['limits'],
): Evidence {
  return { rule, window, attempts, connections, destinations, sources, limits, usual: null }
}

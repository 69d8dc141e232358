/**
 * A relay or an exempt host, held against what it did before. It may send as much as it likes, as long as that is what
 * it always does: a mail server that was broken into sends many times more, to many more servers.
 *
 * Time goes by in steps of ten minutes. What it did at most in one step is its baseline, and fades by half within a
 * week, so that yesterday's newsletter does not excuse everything for ever. While it is above its baseline nothing is
 * learned: an attack must not become the custom.
 */
import type { Thresholds } from '../policy/model.ts'
import { DistinctEstimate } from './distinct-estimate.ts'
import type { Judgement } from './judge.ts'
import { DEFINITE } from './traits.ts'

/** Milliseconds. */
export const STEP = 600_000
const HALF_LIFE = 7 * 86_400_000
const FADE = 0.5 ** (STEP / HALF_LIFE)
/** Good to about 10,000 destinations in a step. */
const BITS = 4_096

/** What outlives a restart. Times in milliseconds since the epoch. */
export interface Baseline {
  readonly source: string
  /** Of a user of this machine; null: of all that comes from the source. */
  readonly uid: number | null
  readonly since: number
  /** The most within one step, as it has faded by `at`. */
  readonly attempts: number
  readonly destinations: number
  readonly at: number
}

export class ExemptHost {
  readonly source: string
  readonly uid: number | null
  readonly #since: number
  readonly #destinations = new DistinctEstimate(BITS)
  #step: number
  #attempts = 0
  #told = 0
  #counted = 0
  #lost = 0
  #usual: { attempts: number; destinations: number }
  #isAbove = false
  lastSeen: number

  constructor(source: string, uid: number | null, now: number, baseline: Baseline | null = null) {
    this.source = source
    this.uid = uid
    this.#since = baseline?.since ?? now
    this.#usual = { attempts: baseline?.attempts ?? 0, destinations: baseline?.destinations ?? 0 }
    this.#step = Math.floor((baseline?.at ?? now) / STEP)
    this.lastSeen = baseline?.at ?? now
  }

  /** It began a connection. */
  add(destination: number | bigint, time: number): void {
    this.advance(time)
    this.#told++
    this.#destinations.add(destination)
    this.#sum()
    this.lastSeen = Math.max(this.lastSeen, time)
  }

  /** The kernel has counted so many more. */
  counted(attempts: number, time: number): void {
    this.advance(time)
    this.#counted += attempts
    this.#sum()
  }

  /** So many more are its own, and were not told. */
  lost(attempts: number, time: number): void {
    this.advance(time)
    this.#lost += attempts
    this.#sum()
  }

  /** null: it does what it always does, or is not known long enough. */
  judge(
    { exemptHost: { factor, attempts, destinations, learn } }: Thresholds,
    now: number,
  ): Judgement | null {
    this.advance(now)
    if (now - this.#since < learn) return null
    const now_ = { attempts: this.#attempts, destinations: this.#destinations.count }
    const tooMany = Math.max(attempts, Math.ceil(factor * this.#usual.attempts))
    const tooWide = Math.max(destinations, Math.ceil(factor * this.#usual.destinations))
    const isTooMany = now_.attempts >= tooMany
    const isTooWide = now_.destinations >= tooWide
    if (!isTooMany && !isTooWide) return null
    this.#isAbove = true
    // Two signals, or one that is beyond doubt (RFC 6561 §4).
    const isDefinite =
      (isTooMany && isTooWide) ||
      now_.attempts >= DEFINITE * tooMany ||
      now_.destinations >= DEFINITE * tooWide
    return {
      kind: 'exempt-host-anomaly',
      confidence: isDefinite ? 'definite' : 'likely',
      evidence: {
        rule: isTooWide ? 'fan-out-above-usual' : 'rate-above-usual',
        window: STEP,
        attempts: now_.attempts,
        connections: now_.attempts,
        destinations: now_.destinations,
        sources: 1,
        limits: { attempts: tooMany, destinations: tooWide },
        usual: {
          attempts: Math.round(this.#usual.attempts),
          destinations: Math.round(this.#usual.destinations),
        },
      },
    }
  }

  /** A person says that this is how it should be. */
  accept(): void {
    this.#learn()
    this.#isAbove = false
  }

  baseline(): Baseline {
    return {
      source: this.source,
      uid: this.uid,
      since: this.#since,
      ...this.#usual,
      at: (this.#step + 1) * STEP - 1,
    }
  }

  /** Whether the step is another one by now. */
  advance(now: number): boolean {
    const step = Math.floor(now / STEP)
    if (step <= this.#step) return false
    if (!this.#isAbove) this.#learn()
    const faded = FADE ** (step - this.#step)
    this.#usual = {
      attempts: this.#usual.attempts * faded,
      destinations: this.#usual.destinations * faded,
    }
    this.#step = step
    this.#attempts = 0
    this.#told = 0
    this.#counted = 0
    this.#lost = 0
    this.#isAbove = false
    this.#destinations.clear()
    return true
  }

  #sum(): void {
    this.#attempts = Math.max(this.#told, this.#counted) + this.#lost
  }

  #learn(): void {
    this.#usual = {
      attempts: Math.max(this.#usual.attempts, this.#attempts),
      destinations: Math.max(this.#usual.destinations, this.#destinations.count),
    }
  }
}

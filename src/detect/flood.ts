/**
 * Attempts from forged addresses: very many machines that nobody has ever seen, hardly an attempt each. No machine can
 * be told from another, so the flood as a whole is one incident, of the policy whose networks the addresses are in.
 *
 *   calm ── a quarter of the threshold ──► suspected ── the threshold ──► active ──► subsided ── quiet ──► calm
 *                                                                           ▲           │
 *                                                                           └───────────┘ half of the threshold again
 *
 * While it is active a single machine is worth an incident of its own only if it stands out of the flood.
 */
import type { Thresholds } from '../policy/model.ts'
import { LossMeter } from '../watch/loss.ts'
import { DistinctEstimate } from './distinct-estimate.ts'
import type { Judgement } from './judge.ts'
import { RecentCount } from './recent.ts'

/** Good to about 1,500,000 sources; 64 KB, for a policy that is flooded. */
const BITS = 524_288
/** Of all attempts, those from machines never seen before. */
const NEW_SHARE = 0.5
/** So many times as many as a machine of the flood on average, and so many in all, stand out of it. */
const STANDS_OUT = 5
const STANDS_OUT_BY = 30
/** So many times the threshold leave no doubt that they are forged. */
const BEYOND_DOUBT = 5

export class FloodWatch {
  readonly #thresholds: Thresholds['flood']
  readonly #newMachines: RecentCount
  readonly #attempts: RecentCount
  readonly #loss = new LossMeter()
  /** Of the flood, or what may become one; null while all is calm. */
  #sources: DistinctEstimate | null = null
  #told = 0
  #toldWhenCalm = 0
  #lostWhenCalm = 0

  constructor({ flood }: Thresholds) {
    this.#thresholds = flood
    this.#newMachines = new RecentCount(flood.window)
    this.#attempts = new RecentCount(flood.window)
  }

  /** An attempt from one of the policy's machines. */
  add(source: string, isNew: boolean, time: number): void {
    this.#told++
    this.#attempts.add(1, time)
    if (isNew) this.#newMachines.add(1, time)
    if (this.#sources === null && this.#newMachines.sum >= this.#thresholds.sources / 4) {
      this.#sources = new DistinctEstimate(BITS)
    }
    this.#sources?.add(source)
  }

  /** The kernel's count of all attempts of the policy, which only grows. */
  counted(attempts: number): void {
    this.#loss.update(attempts, this.#told)
  }

  /** To be called now and then. */
  tick(now: number, isOpen: boolean): void {
    this.#newMachines.expire(now)
    this.#attempts.expire(now)
    if (isOpen || this.#newMachines.sum >= this.#thresholds.sources / 4) return
    this.#sources = null
    this.#toldWhenCalm = this.#told
    this.#lostWhenCalm = this.#loss.lost
  }

  get isSuspected(): boolean {
    return this.#sources !== null
  }

  get isActive(): boolean {
    return this.isSuspected && this.#newMachines.sum >= this.#thresholds.sources / 2
  }

  /** Attempts since it began that the kernel counted and nobody told. */
  get lost(): number {
    return this.#loss.lost - this.#lostWhenCalm
  }

  /** null: there are not enough new machines, or they do more than machines of a flood do. */
  judge(): Judgement | null {
    const { sources, window } = this.#thresholds
    const found = this.#newMachines.sum
    if (found < sources || found < NEW_SHARE * this.#attempts.sum) return null
    return {
      kind: 'flood',
      confidence: found >= BEYOND_DOUBT * sources ? 'definite' : 'likely',
      evidence: {
        rule: 'spoofed-sources',
        window,
        attempts: this.#attempts.sum,
        connections: this.#attempts.sum,
        destinations: 0,
        sources: this.#sources?.count ?? found,
        limits: { sources },
        usual: null,
      },
    }
  }

  /** Whether a machine of which so many attempts were told is more than one of the flood's. */
  standsOut(told: number): boolean {
    return this.#isFarAbove(told, this.#told - this.#toldWhenCalm)
  }

  /** The same for what was counted: the kernel counts all, and tells some. */
  standsOutByCount(attempts: number): boolean {
    return this.#isFarAbove(attempts, this.#told - this.#toldWhenCalm + this.lost)
  }

  #isFarAbove(attempts: number, all: number): boolean {
    const average = all / Math.max(1, this.#sources?.count ?? 1)
    return attempts >= Math.max(STANDS_OUT * average, STANDS_OUT_BY)
  }
}

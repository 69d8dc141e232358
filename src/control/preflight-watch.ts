/** Looks every minute whether this machine lets the rules do their work, and tells what comes and what goes. */

import type { Ruleset } from '../compile/ruleset.ts'
import type { Finding, Preflight, Situation } from '../kernel/preflight.ts'
import { redirects } from '../policy/decide.ts'
import type { Model } from '../policy/model.ts'
import { FAMILIES, type Family } from '../policy/prefix.ts'
import type { InForce } from './controller.ts'

export interface PreflightWatchOptions {
  readonly preflight: Pick<Preflight, 'look'>
  readonly gateway: Situation['gateway']
  /** What is in force; null: nobody knows. */
  readonly inForce: () => Pick<InForce, 'model' | 'ruleset'> | null
  readonly onAppeared: (finding: Finding) => void
  readonly onGone: (finding: Finding) => void
  /** After each look, with all that is found. */
  readonly onLooked: (findings: readonly Finding[]) => void
}

const INTERVAL = 60_000

export class PreflightWatch {
  readonly #options: PreflightWatchOptions
  #findings: readonly Finding[] = []
  #timer: NodeJS.Timeout | null = null
  #stopped = false
  #turn: Promise<void> = Promise.resolve()

  constructor(options: PreflightWatchOptions) {
    this.#options = options
  }

  /** As of the last look. */
  get findings(): readonly Finding[] {
    return this.#findings
  }

  /** Looks at once, without being waited for, and then every minute: one look at a time. */
  start(): void {
    void this.look().finally(() => {
      if (!this.#stopped) this.#timer = setTimeout(() => this.start(), INTERVAL)
    })
  }

  stop(): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  /** One after the other. */
  look(): Promise<void> {
    this.#turn = this.#turn.then(() => this.#lookNow())
    return this.#turn
  }

  async #lookNow(): Promise<void> {
    const { preflight, onAppeared, onGone, onLooked } = this.#options
    const before = this.#findings
    const found = await preflight.look(this.#situation())
    if (this.#stopped) return
    this.#findings = found
    for (const finding of found) if (!before.some(isSame(finding))) onAppeared(finding)
    for (const finding of before) if (!found.some(isSame(finding))) onGone(finding)
    onLooked(found)
  }

  #situation(): Situation {
    const { gateway, inForce } = this.#options
    const current = inForce()
    return {
      gateway,
      families: current === null ? [4, 6] : governedFamilies(current.model),
      redirects: current?.model.policies.some(redirects) ?? false,
      // Rules that were there before us may be of any size.
      elements: current === null ? Number.POSITIVE_INFINITY : mostElements(current.ruleset),
    }
  }
}

/** What two documents both bring counts twice: to know better would cost a walk through a million of them. */
function mostElements({ tables }: Ruleset): number {
  return tables.flatMap(({ parts }) => parts).reduce((sum, { keys }) => sum + keys.length, 0)
}

function governedFamilies({ policies }: Model): Family[] {
  return FAMILIES.filter((family) =>
    policies.some(({ networks }) => networks.parts.some((part) => part.family === family)),
  )
}

function isSame({ code, message }: Finding) {
  return (other: Finding) => other.code === code && other.message === message
}

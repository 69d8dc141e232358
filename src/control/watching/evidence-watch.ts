/** Reads each minute what the kernel counted of observed machines, and remembers it by day. */
import { evidenceIn } from '../../compile/compile-evidence.ts'
import type { LearnedElement } from '../../compile/remembered.ts'
import { governingPolicy } from '../../policy/decide.ts'
import type { Model } from '../../policy/model.ts'
import { formatPrefix, type Prefix, parsePrefix, truncate } from '../../policy/prefix.ts'
import type { EvidenceStore, Reading } from '../../store/evidence.ts'
import type { Controller } from '../controller.ts'

export interface EvidenceWatchOptions {
  readonly controller: Pick<Controller, 'exclusively' | 'inForce'>
  readonly readSet: (set: string) => Promise<readonly LearnedElement[]>
  readonly store: EvidenceStore
  /** All that the work writes, or nothing of it. */
  readonly inTransaction: (work: () => void) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly onFailed: (error: Error) => void
}

const INTERVAL = 60_000
/** Counters taken at once; others want their turn. */
const MOST = 5_000

export class EvidenceWatch {
  readonly #options: EvidenceWatchOptions
  #timer: NodeJS.Timeout | null = null
  #reading: Promise<void> | null = null

  constructor(options: EvidenceWatchOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer = setInterval(() => void this.look(), INTERVAL)
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#reading
  }

  /** Reads now; never throws. */
  look(): Promise<void> {
    this.#reading ??= this.#read()
      .catch(this.#options.onFailed)
      .finally(() => {
        this.#reading = null
      })
    return this.#reading
  }

  async #read(): Promise<void> {
    const { controller, readSet, store, inTransaction, now } = this.#options
    const { inForce } = controller
    if (inForce === null) return
    for (const { name } of inForce.ruleset.learned) {
      const counted = evidenceIn(name)
      if (counted === null) continue
      const elements = await controller.exclusively(() => readSet(name))
      const readings = elements.flatMap(({ address, packets, bytes }): Reading[] => {
        const machine = machineOf(address, counted.length, inForce.model)
        if (machine === null) return []
        return [{ set: name, address, what: counted.what, source: formatPrefix(machine), packets, bytes }]
      })
      inTransaction(() => store.take(readings, now(), MOST))
    }
  }
}

/** Whatever the length of the count, a machine is what its policy says; null: nobody governs it. */
function machineOf(address: string, length: number, model: Model): Prefix | null {
  const prefix = parsePrefix(address.includes('/') ? address : `${address}/${length}`)
  if (typeof prefix === 'string') return null
  const policy = governingPolicy(model, prefix)?.policy
  if (policy === undefined) return null
  return prefix.family === 4 ? prefix : truncate(prefix, policy.thresholds.ipv6Prefix)
}

/**
 * Which of the announced transactions are ours. The kernel names the process of each by its number on the machine. In a
 * PID namespace (a container) that is not the number by which we know our processes: there, as many transactions of nft
 * count as ours as we have sent. Whichever they are, what is beyond that number is somebody else's, and is put right.
 */
import { readlinkSync } from 'node:fs'

/** The machine's own PID namespace (linux/proc_ns.h: PROC_PID_INIT_INO). */
const MACHINE = 'pid:[4026531836]'

/** Ids of processes are used again, but not so soon. */
const REMEMBERED_PIDS = 1_000
/** Milliseconds after the end of our nft in which its transaction is heard of, if at all. */
const UNDER_WAY = 1_000

export class OwnChanges {
  readonly #knowsNumbers: boolean
  readonly #now: () => number
  readonly #pids = new Set<number>()
  /** Transactions sent and not heard of: by process, until when they may be; null while it runs. */
  readonly #unheard = new Map<number, number | null>()

  /** `now` is in milliseconds, and never goes back. */
  constructor(namespace = pidNamespace(), now: () => number = () => performance.now()) {
    this.#knowsNumbers = namespace === MACHINE
    this.#now = now
  }

  /** An nft of ours, of this number here, begins to change something. */
  begin(pid: number): void {
    if (!this.#knowsNumbers) {
      this.#unheard.set(pid, null)
      return
    }
    this.#pids.add(pid)
    const [oldest] = this.#pids
    if (this.#pids.size > REMEMBERED_PIDS && oldest !== undefined) this.#pids.delete(oldest)
  }

  /** It has ended, having changed something or not. */
  end(pid: number, changed: boolean): void {
    if (!this.#unheard.has(pid)) return
    if (changed) this.#unheard.set(pid, this.#now() + UNDER_WAY)
    else this.#unheard.delete(pid)
  }

  /** From now on all that happens is heard of, and nothing of what was before. */
  forgetUnheard(): void {
    this.#unheard.clear()
  }

  /** Whether a transaction is ours, of a program that has this number on the machine. To be asked once for each. */
  claim(pid: number, program: string): boolean {
    if (this.#knowsNumbers) return this.#pids.has(pid)
    if (program !== 'nft') return false
    for (const [one, until] of this.#unheard) {
      this.#unheard.delete(one)
      if (until === null || until >= this.#now()) return true
    }
    return false
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}

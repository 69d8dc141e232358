// A gateway in a namespace of its own, for rules that no packet meets.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Lab, openLab } from '../lab/lab.ts'
import { type Timed, timed } from './timed.ts'

export interface Gateway {
  /** Runs a program in it; see `timed`. */
  timed(argv: readonly string[]): Promise<Timed>
  /** Removes all rules, and waits until the kernel has put away what they held. */
  clear(): Promise<void>
  close(): Promise<void>
}

/** The kernel frees the elements of removed sets when it has time, which a measuring must not be. */
const SETTLE_MS = 1_000

export async function openGateway(): Promise<Gateway> {
  const lab: Lab = await openLab()
  const inside = (argv: readonly string[]) => timed(['ip', 'netns', 'exec', lab.gateway, ...argv])
  return {
    timed: inside,
    async clear() {
      await inside(['nft', 'flush', 'ruleset'])
      await sleep(SETTLE_MS)
    },
    close: () => lab.close(),
  }
}

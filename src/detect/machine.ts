/** One machine that is watched closely: what it did, and what is known of it by number alone. */
import type { Thresholds } from '../policy/model.ts'
import type { Attempt } from '../watch/attempt.ts'
import { Account } from './account.ts'
import type { Case } from './case.ts'
import type { Incident } from './incident.ts'
import { machineKey } from './machine-key.ts'
import type { RecentUsers } from './recent-users.ts'
import { Tally } from './tally.ts'
import { MachineTraits } from './traits.ts'

export interface Machine {
  readonly key: string
  /** In canonical text. */
  readonly source: string
  /** A user of that host; null: the machine itself. */
  readonly uid: number | null
  policy: string
  thresholds: Thresholds
  traits: MachineTraits
  readonly tally: Tally
  verdict: Incident['verdict']
  /** Attempts known of by number alone, that are most likely its own. */
  lost: number
  /** Held against the kernel's counter, which counts by address: of a host's users, all is in the host's. */
  readonly account: Account
  /** Of a host: who of its users made attempts lately, null when none ever did; and those who have an open incident. */
  users: RecentUsers | null
  readonly accused: Set<Machine>
  open: Case | null
}

/** By what a machine was noticed. */
export type First = Pick<Attempt, 'time' | 'verdict'>

export function newMachine(
  source: string,
  uid: number | null,
  policy: string,
  thresholds: Thresholds,
  { time, verdict }: First,
): Machine {
  return {
    key: machineKey(source, uid),
    source,
    uid,
    policy,
    thresholds,
    traits: new MachineTraits(thresholds),
    tally: new Tally(time),
    verdict,
    lost: 0,
    account: new Account(),
    users: null,
    accused: new Set(),
    open: null,
  }
}

/** An attempt of the machine was told. */
export function add({ traits, tally, account }: Machine, attempt: Attempt): void {
  // The clock may have been set back meanwhile.
  const time = Math.max(attempt.time, tally.lastSeen)
  traits.add(attempt, time)
  tally.add(attempt, time)
  account.tell()
}

/** Whose lost attempts need no other explanation. */
export function isGrave({ open }: Machine): boolean {
  return open?.kind === 'spam-bot' || open?.kind === 'scanner'
}

/** Milliseconds after which what a machine did counts no more. */
export function memory({ spamBot, misconfigured, slowBot, scanner }: Thresholds): number {
  return Math.max(...[spamBot, misconfigured, slowBot, scanner].map(({ window }) => window))
}

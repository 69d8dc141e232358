/**
 * What a table says of the rulesets that were applied to it: the map `applied` leads from the number of each change to
 * the digest of the ruleset that it brought, so the highest number tells what is in force. A delta creates the next
 * number, which fails when somebody else has created it, and names a set that only this writing of the table has
 * (its era), which fails when the table was written anew. So a delta lands on what it starts from, or not at all.
 *
 * It only grows: a transaction that deletes anything waits for the kernel's readers (an RCU grace period, 16 ms), one
 * that only adds takes 3 ms. Old numbers go along when something else is deleted.
 */

/** Numbers kept at most before they are worth a deletion of their own. */
const MAX_NUMBERS = 64

export interface AppliedLog {
  /** 128 bits in hexadecimal, drawn anew for each writing of the whole table. */
  readonly era: string
  /** The numbers that the map has, from 1. */
  readonly oldest: number
  readonly newest: number
}

/** How a table begins that was just written. */
export function firstOf(era: string): AppliedLog {
  return { era, oldest: 1, newest: 1 }
}

/** What the log becomes by one more change, which deletes other things or does not. */
export function nextOf({ era, oldest, newest }: AppliedLog, deletes: boolean): AppliedLog {
  const next = newest + 1
  return { era, oldest: deletes || next - oldest >= MAX_NUMBERS ? next : oldest, newest: next }
}

/** The numbers that are in the first and no longer in the second. */
export function droppedBetween(before: AppliedLog, after: AppliedLog): number[] {
  return Array.from(
    { length: Math.min(after.oldest, before.newest + 1) - before.oldest },
    (_, i) => before.oldest + i,
  )
}

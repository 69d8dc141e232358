/** A change that waits for its confirmation, as people meet it: how it is shown, and what is refused because of it. */
import type { Pending } from './confirmation.ts'

/** Another change waits for its confirmation. */
export class ConfirmationPendingError extends Error {
  /** @param secondsLeft until that is taken back */
  constructor(secondsLeft: number) {
    const left = Math.ceil(secondsLeft)
    super(
      `a change waits for its confirmation for another ${left} s: egress25 confirm, or egress25 rollback; nothing was changed`,
    )
  }
}

/** No change waits for a confirmation. */
export class NothingPendingError extends Error {}

/** The policies are those that were taken back: they come into force on purpose only. */
export class HeldError extends Error {}

/** A change that waits, for answers and `--json`; null when none does. */
export function pendingBody({ pending, secondsLeft }: { pending: Pending | null; secondsLeft: number }) {
  if (pending === null) return null
  return {
    id: pending.id,
    /** By the clock as it is now; what counts is the time left. */
    deadline: new Date(Date.now() + secondsLeft * 1_000).toISOString(),
    seconds_left: Math.round(secondsLeft * 10) / 10,
  }
}

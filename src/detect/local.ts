/** What is known of this machine's own users, for incidents of theirs. */
import type { LocalProcess } from '../watch/local-processes.ts'

export interface Local {
  /** null: nobody has the id, or its name is not known yet. */
  nameOf(uid: number): string | null
  /** The program that made an attempt of the user's lately; null: nobody saw. */
  processOf(uid: number): LocalProcess | null
}

export const NOTHING_LOCAL: Local = { nameOf: () => null, processOf: () => null }

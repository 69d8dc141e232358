/**
 * What is about to change, written down before it does. It is dropped when git has it, so whatever is found at a start
 * was under way, or acknowledged and not yet committed.
 */
import type { ChangeRecord } from './change-record.ts'

/** The work tree moves to a revision that somebody else has committed, or that was made from our own commits. */
export interface AdvanceRecord {
  readonly from: string | null
  readonly to: string
}

export type JournalEntry =
  /** Changes of one group were made at once. */
  | ({ readonly kind: 'commit'; readonly group?: string } & ChangeRecord)
  | ({ readonly kind: 'advance' } & AdvanceRecord)

/** Durable, in order. */
export interface Journal {
  /** It is safe on the disk when this returns. Answers its number. @throws Error when it cannot be written */
  add(entry: JournalEntry): number
  /** All entries that the work adds are safe when this returns, or none is there. @throws what the work throws, and Error */
  together<T>(work: () => T): T
  remove(numbers: readonly number[]): void
  /** Of what was not made: never throws. What cannot be removed now is removed before anything else is added. */
  cancel(number: number): void
  /** The oldest first. */
  all(): readonly { readonly number: number; readonly entry: JournalEntry }[]
}

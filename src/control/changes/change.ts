/** What is asked of the policies, and what it comes to. */

import type { Caller } from '../../caller.ts'
import type { Remembered } from '../../history/change-keeper.ts'
import type { FileChange } from '../../policy/file-change.ts'
import type { Loaded } from '../../policy/load.ts'
import type { Model } from '../../policy/model.ts'
import type { Document } from '../../policy/schema.ts'

/** How something is to be changed. */
export interface How {
  /** Only say what it would change. */
  readonly dryRun: boolean
  readonly by: Caller
  /** Whether the policies may become these; throws when they may not. */
  readonly mayBecome?: (model: Model) => void
}

/** Whether a change may go ahead, given the document as it is now; throws when it may not. */
export type Precondition = (current: Document | null) => void

/** How one document is to be changed. */
export interface Change extends How {
  readonly mayGoAhead: Precondition
  /** Why, in words for the history. */
  readonly reason?: string | null
}

/** A change of files, worked out from what is there. */
export interface MadeChange {
  readonly files: readonly FileChange[]
  /** Writes it down; without it nothing remembers the change. */
  readonly remember: () => Remembered | null
}

/** Works a change out when it is its turn; null: there is nothing to change. Throws when it may not go ahead. */
export type MakeChange = (onDisk: Loaded) => Promise<MadeChange | null>

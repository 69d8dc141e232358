/** What remembers changes of the policy directory, as the controller sees it: the history, where there is one. */
import type { Caller } from '../caller.ts'
import type { FileChange } from '../policy/file-change.ts'

/** A change that is about to be made. */
export interface Intent {
  readonly by: Caller
  /** One line, such as `exemption acme: added`. */
  readonly subject: string
  readonly reason: string | null
  /** The revision that it takes back. */
  readonly reverts?: string | null
  /** With what each file has now; null: it is not there. */
  readonly files: readonly (FileChange & { readonly before: string | Uint8Array | null })[]
}

/** What becomes of a change that was written down. */
export interface Remembered {
  /** It was made, and is acknowledged. */
  done(): void | Promise<void>
  /** It was not made. Never throws: why it was not made is what has to be told. */
  cancel(): void
}

export interface ChangeKeeper {
  /** @throws EditedByHandError when the change would have somebody else's in it, or overwrite it */
  mustBeCommitted(files: ReadonlyMap<string, string | Uint8Array | null>): Promise<void>
  /** Safe on the disk when it returns. @throws Error when it cannot be written down */
  begin(intent: Intent): Remembered
  /** What the work begins is written down at once, all of it or nothing. @throws what it throws, and as `begin` does */
  together<T>(work: () => T): T
}

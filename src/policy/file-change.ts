/** A change of the policy directory, file by file. */

/** What one file is to hold: text, bytes where it is none, or null: the file goes. */
export interface FileChange {
  readonly path: string
  readonly text: string | Uint8Array | null
  /** Permissions; 0o644 by default. */
  readonly mode?: number
}

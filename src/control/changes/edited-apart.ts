/**
 * Files that somebody edits while they are not in force: a change of something else must not bring them into force, so
 * for it they are what they were.
 */
import type { Overlay } from '../../policy/files.ts'
import type { Loaded } from '../../policy/load.ts'

/** The texts in force of files that the disk has otherwise; null: a file that is not in force. */
export function editedApart(onDisk: Pick<Loaded, 'files'>, inForce: Pick<Loaded, 'files'> | null): Overlay {
  const apart = new Map<string, string | null>()
  if (inForce === null) return apart
  for (const [path, text] of onDisk.files) {
    const known = inForce.files.get(path) ?? null
    if (known !== text) apart.set(path, known)
  }
  for (const [path, text] of inForce.files) if (!onDisk.files.has(path)) apart.set(path, text)
  return apart
}

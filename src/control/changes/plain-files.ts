/** Files that a change may touch: in their folders, and no links. */
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { UnchangeableError } from '../../history/history-error.ts'
import type { FileChange } from '../../policy/file-change.ts'

/**
 * In place of a link would be a file, and what it leads to would stay as it was. Behind a folder that is a link a file would
 * be written that nobody reads again.
 * @param mayEnd whether a link may be removed, as that is what it was asked for
 * @throws UnchangeableError
 */
export async function mustBePlain(
  directory: string,
  files: readonly Pick<FileChange, 'path' | 'text'>[],
  mayEnd: boolean,
): Promise<void> {
  const places = new Map<string, string>()
  for (const { path, text } of files) {
    const parts = path.split('/')
    for (let at = 1; at < parts.length; at++) places.set(parts.slice(0, at).join('/'), path)
    if (text !== null || !mayEnd) places.set(path, path)
  }
  for (const [place, path] of places) {
    const isLink = await lstat(join(directory, place)).then(
      (info) => info.isSymbolicLink(),
      () => false,
    )
    if (!isLink) continue
    const what = place === path ? 'it is a link' : `the folder ${place} is a link`
    throw new UnchangeableError(path, `${what}; change what it leads to by hand, and apply`)
  }
}

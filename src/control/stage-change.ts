/** A file of the policy directory, changed in two steps: safely on the disk first, then, when the kernel agrees, there. */
import { access, constants, mkdir, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type StagedFile, stageFile, syncFolder } from '../kernel/atomic-file.ts'
import type { FileChange } from './document-change.ts'

/** The policy directory cannot be written; nothing was changed. */
export class UnwritableError extends Error {}

/** Files that are written side by side: what they wait for is the disk. */
const AT_ONCE = 32

/** Prepares the change of a file, or its end. @throws UnwritableError */
export async function stageChange(directory: string, { path, text, mode }: FileChange): Promise<StagedFile> {
  const whole = join(directory, path)
  const folder = dirname(whole)
  try {
    if (text !== null) {
      const made = await mkdir(folder, { recursive: true })
      return await stageFile(whole, text, mode).catch(async (error) => {
        if (made !== undefined) await rmdir(folder).catch(() => {})
        throw error
      })
    }
    // Asked before the kernel is changed: whoever may write the folder may remove what is in it.
    await access(folder, constants.W_OK)
  } catch (error) {
    const what = text === null ? 'remove' : 'write'
    throw new UnwritableError(`cannot ${what} ${whole}: ${(error as Error).message}; nothing was changed`)
  }
  const place = () => unlink(whole)
  return { folder, place, commit: () => place().then(() => syncFolder(folder)), discard: async () => {} }
}

/** The same for several files. @throws UnwritableError, leaving nothing behind */
export async function stageChanges(
  directory: string,
  changes: readonly FileChange[],
): Promise<Pick<StagedFile, 'commit' | 'discard'>> {
  const staged: StagedFile[] = []
  const discard = async () => {
    for (const one of staged) await one.discard()
  }
  for (let at = 0; at < changes.length; at += AT_ONCE) {
    const some = changes.slice(at, at + AT_ONCE).map((change) => stageChange(directory, change))
    const results = await Promise.allSettled(some)
    staged.push(...results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed === undefined) continue
    await discard()
    throw failed.reason
  }
  return {
    async commit() {
      for (const one of staged) await one.place()
      for (const folder of new Set(staged.map((one) => one.folder))) await syncFolder(folder)
    },
    discard,
  }
}

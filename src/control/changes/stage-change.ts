/** Files of the policy directory, changed in two steps: safely on the disk first, then, when the kernel agrees, there. */
import { access, constants, mkdir, readFile, rmdir, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type StagedFile, stageFile, syncFolder, writeFileAtomically } from '../../kernel/atomic-file.ts'
import type { FileChange } from '../../policy/file-change.ts'

/** The policy directory cannot be written; nothing was changed. */
export class UnwritableError extends Error {}

/** Some files of a change have their new text, and the others cannot be given theirs. */
export class HalfPlacedError extends Error {}

/** Files that are written side by side: what they wait for is the disk. */
const AT_ONCE = 32

/** Prepares the change of a file, or its end. @throws UnwritableError */
export async function stageChange(directory: string, { path, text, mode }: FileChange): Promise<StagedFile> {
  const whole = join(directory, path)
  const folder = dirname(whole)
  try {
    if (text !== null) {
      const made = await mkdir(folder, { recursive: true })
      const kept = mode === undefined ? await permissionsOf(whole) : null
      return await stageFile(whole, text, mode, kept).catch(async (error) => {
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

/**
 * Who may read and write a file that is replaced, as its owner has it: a mask of the service would lock out a group that
 * edits by hand. Not who may run it: git is told that nobody does. null: there is no such file.
 */
async function permissionsOf(path: string): Promise<number | null> {
  return stat(path).then(
    ({ mode }) => mode & 0o666,
    () => null,
  )
}

/** A change of one file or several that is safely on the disk, and not there yet. */
export interface StagedChange {
  /** Where its names will be. */
  readonly folders: readonly string[]
  /** All of its files get their names, or none does. @throws UnwritableError or HalfPlacedError */
  place(): Promise<void>
  /** What was there before is there again. @throws HalfPlacedError */
  putBack(): Promise<void>
  /** Never throws. */
  discard(): Promise<void>
}

/** The same for changes of several files each. @throws UnwritableError, leaving nothing behind */
export async function stageAll(
  directory: string,
  changes: readonly (readonly FileChange[])[],
): Promise<StagedChange[]> {
  const all = changes.flatMap((files, index) => files.map((file) => ({ file, index })))
  const staged: (StagedFile & { readonly path: string; readonly index: number })[] = []
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const some = all
      .slice(at, at + AT_ONCE)
      .map(async ({ file, index }) => ({ ...(await stageChange(directory, file)), path: file.path, index }))
    const results = await Promise.allSettled(some)
    staged.push(...results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed === undefined) continue
    for (const one of staged) await one.discard()
    throw failed.reason
  }
  return changes.map((_, index) =>
    stagedChange(
      directory,
      staged.filter((one) => one.index === index),
    ),
  )
}

/** Answers for each why it is not there, or null. What is there is durable. */
export async function placeAll(staged: readonly StagedChange[]): Promise<(Error | null)[]> {
  const faults: (Error | null)[] = []
  for (const one of staged) faults.push(await faultOf(one.place()))
  const placed = staged.filter((_, index) => faults[index] === null)
  for (const folder of new Set(placed.flatMap(({ folders }) => folders))) {
    const fault = await faultOf(syncFolder(folder))
    if (fault === null) continue
    for (const [index, one] of staged.entries()) {
      if (faults[index] !== null || !one.folders.includes(folder)) continue
      faults[index] =
        (await faultOf(one.putBack())) ?? new UnwritableError(`cannot write ${folder}: ${fault.message}`)
    }
  }
  return faults
}

function faultOf(work: Promise<unknown>): Promise<Error | null> {
  return work.then(
    () => null,
    (error: Error) => error,
  )
}

interface Replaced {
  readonly path: string
  /** null: it was not there. */
  readonly before: { readonly content: Buffer; readonly mode: number } | null
}

function stagedChange(
  directory: string,
  files: readonly (StagedFile & { readonly path: string })[],
): StagedChange {
  const replaced: Replaced[] = []
  const putBack = async () => {
    const left: string[] = []
    for (const { path, before } of replaced.splice(0)) {
      const whole = join(directory, path)
      const fault = await faultOf(
        before === null ? unlink(whole) : writeFileAtomically(whole, before.content, before.mode),
      )
      if (fault !== null) left.push(`${path} (${fault.message})`)
    }
    if (left.length > 0) throw new HalfPlacedError(`what was changed cannot be put back: ${left.join(', ')}`)
  }
  return {
    folders: files.map(({ folder }) => folder),
    putBack,
    async place() {
      for (const { path, place } of files) {
        try {
          const before = await contentOf(join(directory, path))
          await place()
          replaced.push({ path, before })
        } catch (error) {
          const message = `cannot write ${join(directory, path)}: ${(error as Error).message}`
          const left = await faultOf(putBack())
          for (const one of files) await one.discard()
          throw left === null
            ? new UnwritableError(message)
            : new HalfPlacedError(`${message}; ${left.message}`)
        }
      }
    },
    async discard() {
      for (const one of files) await one.discard()
    },
  }
}

async function contentOf(path: string): Promise<Replaced['before']> {
  try {
    return { content: await readFile(path), mode: (await stat(path)).mode & 0o777 }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

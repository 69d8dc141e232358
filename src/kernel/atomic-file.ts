/** Files that are there whole or not at all, also after a power cut. */
import { open, readdir, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** A file that is written but does not have its name yet. */
export interface StagedFile {
  /** Where its name will be. */
  readonly folder: string
  /** Gives it its name, in place of whatever had it; that is durable once the folder is synced. */
  place(): Promise<void>
  /** Both. */
  commit(): Promise<void>
  /** Never throws: why a change is not made is what has to be told. */
  discard(): Promise<void>
}

/**
 * Writes and syncs the text beside its final path.
 * @param mode permissions of a new file, as far as the process's mask lets it have them
 * @param exactly permissions that it has whatever the mask says
 * @throws Error (ENOSPC, EROFS, EACCES, …), leaving nothing behind
 */
export async function stageFile(
  path: string,
  text: string | Uint8Array,
  mode = 0o644,
  exactly: number | null = null,
): Promise<StagedFile> {
  const temporary = `${path}.${process.pid}.new`
  const discard = () => unlink(temporary).catch(() => {})
  try {
    await using handle = await open(temporary, 'w', exactly ?? mode)
    if (exactly !== null) await handle.chmod(exactly)
    await handle.writeFile(text)
    await handle.sync()
  } catch (error) {
    await discard()
    throw error
  }
  const folder = dirname(path)
  const place = () => rename(temporary, path)
  return { folder, place, commit: () => place().then(() => syncFolder(folder)), discard }
}

/** Writes a file in place of another: readers see the old text or the new one. */
export async function writeFileAtomically(
  path: string,
  text: string | Uint8Array,
  mode?: number,
): Promise<void> {
  const staged = await stageFile(path, text, mode)
  await staged.commit()
}

/** What was written beside a file and never had its name, as a process that was killed leaves it. */
export async function stagedFor(path: string): Promise<string[]> {
  const entries = await readdir(dirname(path)).catch(() => [])
  const name = basename(path)
  return entries
    .filter((entry) => entry.startsWith(`${name}.`) && /^\.\d+\.new$/.test(entry.slice(name.length)))
    .map((entry) => join(dirname(path), entry))
}

/** Removes what processes that were killed had staged in a folder, and in those inside it, and never named. */
export async function removeLeftOvers(folder: string): Promise<void> {
  for (const path of await readdir(folder, { recursive: true }).catch(() => [])) {
    const pid = Number(/\.(\d+)\.new$/.exec(path)?.[1])
    if (pid > 0 && !isRunning(pid)) await unlink(join(folder, path)).catch(() => {})
  }
}

/** Whether there is a process of that id; one of another user is there, too. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** Makes a rename or an unlink in the folder durable. */
export async function syncFolder(path: string): Promise<void> {
  await using handle = await open(path, 'r')
  await handle.sync()
}

/**
 * Locks that a git left behind which was killed: by a power cut, or together with the service. git itself never removes one,
 * and nothing can be committed while it is there.
 */
import { readdir, readFile, readlink, realpath, stat, unlink } from 'node:fs/promises'
import { join, sep } from 'node:path'

/**
 * Removes locks of this user while no git of theirs runs in the work tree; somebody who has an editor open for `git commit` keeps
 * theirs. To be called while we run none ourselves. Never throws: what stays is in the way, and told as such.
 * @param folder `.git`
 */
export async function removeStaleLocks(directory: string, folder: string): Promise<void> {
  const found = [...(await locksIn(folder, false)), ...(await locksIn(join(folder, 'refs'), true))]
  if (found.length === 0 || (await isGitAtWork(directory))) return
  for (const path of found) if (await isOurs(path)) await unlink(path).catch(() => {})
}

function isOurs(path: string): Promise<boolean> {
  return stat(path).then(
    ({ uid }) => uid === process.getuid?.(),
    () => false,
  )
}

async function locksIn(folder: string, recursive: boolean): Promise<string[]> {
  const entries = await readdir(folder, { recursive }).catch(() => [])
  return entries.filter((entry) => entry.endsWith('.lock')).map((entry) => join(folder, entry))
}

/** One of another user has locks of another user. */
async function isGitAtWork(directory: string): Promise<boolean> {
  const root = await realpath(directory).catch(() => directory)
  const pids = (await readdir('/proc').catch(() => [])).filter((entry) => /^\d+$/.test(entry))
  for (const pid of pids) {
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
    if (!name.startsWith('git') || !(await isOurs(`/proc/${pid}`))) continue
    const where = await readlink(`/proc/${pid}/cwd`).catch(() => sep)
    if (where === root || where.startsWith(root + sep)) return true
  }
  return false
}

/** What the kernel tells in files of /proc and /sys. The one door to them, so that tests can lay a folder in their place. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface MachineFiles {
  /** The trimmed text; null when it is not there, is hidden from this process, or cannot be read. */
  read(path: string): Promise<string | null>
  /** The names in a folder; none when it is not there or cannot be read. */
  list(path: string): Promise<readonly string[]>
}

export function machineFiles(root = '/'): MachineFiles {
  return {
    read: async (path) => (await readFile(join(root, path), 'utf8').catch(() => null))?.trim() ?? null,
    list: (path) => readdir(join(root, path)).catch(() => []),
  }
}

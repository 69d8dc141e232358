/**
 * The last good ruleset as plain nft files, for a boot without us: a whole script, and behind it the changes since,
 * each in a file of its own that the script includes. So that one more exemption among a million costs one small file,
 * not the whole script again. All of it is one transaction when `nft -f` reads it.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type AppliedLog, firstOf } from '../compile/applied-log.ts'
import type { DeltaScript } from '../compile/nft/delta-script.ts'
import { writeFileAtomically } from './atomic-file.ts'

export const BOOT_FILE = 'ruleset.nft'
const CHANGES = 'changes'

/** Changes kept beside a script before it is written anew. */
const MAX_CHANGES = 100

/** Bytes at the end of a script in which its include stands. */
const TAIL = 8_192

/** Paths that nft can include: it knows no way to escape a quote or a pattern's letters. */
const PLAIN = /^[\w/.+-]+$/

/** A change of the kernel that led from one ruleset to another, by their digests. */
export interface KeptChange {
  readonly from: string
  readonly to: string
  /** As text for a table that stands there. */
  readonly render: (log: AppliedLog) => DeltaScript
}

export class BootFile {
  readonly #directory: string
  readonly #includes: boolean
  /** What we wrote last: what it leads to with its changes, how many there are, and the log of the table they make. */
  #last: { readonly log: AppliedLog; readonly digest: string; readonly changes: number } | null = null

  constructor(stateDirectory: string) {
    this.#directory = stateDirectory
    this.#includes = PLAIN.test(stateDirectory)
  }

  /** Whether this ruleset is what is kept. */
  async keeps(digest: string): Promise<boolean> {
    return this.#last?.digest === digest && (await this.#isOurs(this.#last.log.era))
  }

  /**
   * Writes the whole script. The era of the table that it makes is the name of the script, too: a table from it is never
   * taken for one that was written while we run.
   * @throws Error (ENOSPC, EROFS, EACCES, …); then the old one still stands
   */
  async write(render: (era: string) => string, digest: string): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o750 })
    const name = newEra()
    const text = render(name)
    const changes = join(this.#directory, CHANGES)
    await mkdir(changes, { recursive: true, mode: 0o750 })
    const end = this.#includes ? includeOf(changes, name) : `# ${name}\n`
    await writeFileAtomically(join(this.#directory, BOOT_FILE), text + end, 0o640)
    this.#last = { log: firstOf(name), digest, changes: 0 }
    await this.#forgetOthers(changes, name)
  }

  /**
   * Keeps one change beside the script. False when it does not follow on what is kept, or when there are so many that
   * the script is better written anew. @throws Error; then what was kept before still stands
   */
  async append({ from, to, render }: KeptChange): Promise<boolean> {
    const last = this.#last
    if (
      !this.#includes ||
      last?.digest !== from ||
      last.changes >= MAX_CHANGES ||
      !(await this.#isOurs(last.log.era))
    )
      return false
    const number = String(last.changes + 1).padStart(6, '0')
    const { text, log } = render(last.log)
    await writeFileAtomically(join(this.#directory, CHANGES, `${log.era}-${number}.nft`), text, 0o640)
    this.#last = { log, digest: to, changes: last.changes + 1 }
    return true
  }

  /** Whether the script is still the one we wrote: another process may have put its own there. */
  async #isOurs(name: string): Promise<boolean> {
    try {
      await using handle = await open(join(this.#directory, BOOT_FILE), 'r')
      const { size } = await handle.stat()
      const { buffer, bytesRead } = await handle.read({
        buffer: Buffer.alloc(TAIL),
        position: Math.max(0, size - TAIL),
      })
      return buffer.subarray(0, bytesRead).toString('utf8').includes(name)
    } catch {
      return false
    }
  }

  /** Changes that belong to scripts that are gone; what cannot be removed is never included. */
  async #forgetOthers(changes: string, name: string): Promise<void> {
    await chmod(changes, 0o2750).catch(() => {})
    for (const file of await readdir(changes).catch(() => [])) {
      if (!file.startsWith(`${name}-`)) await unlink(join(changes, file)).catch(() => {})
    }
  }
}

/** A name that no table had before. */
export function newEra(): string {
  return randomBytes(16).toString('hex')
}

/** nft takes a pattern without a match for nothing to include, and matches in the order of their names. */
function includeOf(changes: string, name: string): string {
  return `include ${JSON.stringify(join(changes, `${name}-*.nft`))}\n`
}

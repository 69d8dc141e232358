/**
 * One change at a time on a machine: a lock that ends with the process that holds it, whatever ends that.
 *
 * Node has no flock(2). SQLite has locks of the kernel (fcntl(2)) on the files of its databases, so an exclusive
 * transaction on an empty one is such a lock: nothing to be left behind, and the kernel itself says who holds it.
 */
import { closeSync, fchmodSync, fchownSync, openSync, statSync } from 'node:fs'
import { access, constants, mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as wait } from 'node:timers/promises'
import { KernelError } from './kernel-error.ts'

/** Somebody else changes the rules, and did not come to an end in time. */
export class LockedError extends KernelError {
  /** Such as `another egress25 (process 4711: apply)`. */
  readonly holder: string

  constructor(holder: string) {
    super('no-answer', `${holder} is changing the rules; nothing was changed, try again when it is done`)
    this.holder = holder
  }
}

const PATIENCE = 10_000
const PAUSE = 25
const SQLITE_BUSY = 5

/** Nothing else refers to a lock while its holder waits, and what is collected as garbage is closed. */
const held = new Set<DatabaseSync>()

/**
 * Does the work while nobody else holds the lock, waiting for at most `patience` milliseconds. Where there can be no
 * lock at all (the disk is full or read-only, the folder belongs to somebody else) the work is done without one:
 * closing port 25 matters more.
 * @throws LockedError naming who holds it, and whatever the work throws
 */
export async function withLock<T>(path: string, work: () => Promise<T>, patience = PATIENCE): Promise<T> {
  const release = await acquire(path, patience)
  try {
    return await work()
  } finally {
    release?.()
  }
}

/**
 * Takes the lock for as long as this process runs; where there can be no lock at all, without one.
 * @throws LockedError naming who has it, at once
 */
export async function keepLock(path: string): Promise<void> {
  await acquire(path, 0)
}

/**
 * Waits until nobody holds flock(2) on a folder: an nft that goes on when whoever started it was killed does (`nft.ts`),
 * and what it sends must not come after what is sent next. Where that cannot be seen nothing is waited for.
 * @throws LockedError naming it after `patience` milliseconds
 */
export async function waitForFolder(folder: string, patience = PATIENCE): Promise<void> {
  for (const deadline = performance.now() + patience; ; await wait(PAUSE)) {
    const pid = await holderOf(folder, 'FLOCK').catch(() => null)
    if (pid === null) return
    if (performance.now() > deadline) throw new LockedError(`an nft of an earlier change (process ${pid})`)
  }
}

async function acquire(path: string, patience: number): Promise<(() => void) | null> {
  let database: DatabaseSync
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o750 })
    makeFile(path)
    // SQLite would answer "begun" to whoever may only read, and lock nothing.
    await access(path, constants.W_OK)
    database = new DatabaseSync(path, { timeout: 0 })
  } catch {
    return null
  }
  for (const deadline = performance.now() + patience; ; await wait(PAUSE)) {
    try {
      // No journal: nothing is ever written, and a file of root's could not be removed by the service.
      database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
      held.add(database)
      return () => {
        held.delete(database)
        database.close()
      }
    } catch (error) {
      if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) {
        database.close()
        return null
      }
      if (performance.now() < deadline) continue
      const holder = await findHolder(path)
      database.close()
      throw new LockedError(holder)
    }
  }
}

/**
 * Makes the file for everybody who may use the folder: root applies from a terminal, the service under its own user.
 * In one go, and only when there is none: closing a file ends all locks that this process has on it.
 */
function makeFile(path: string): void {
  let file: number
  try {
    file = openSync(path, 'wx', 0o660)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return
    throw error
  }
  try {
    fchmodSync(file, 0o660)
    const { uid, gid } = statSync(dirname(path))
    if (process.geteuid?.() === 0) fchownSync(file, uid, gid)
  } finally {
    closeSync(file)
  }
}

/** By the kernel's list of locks; it hides processes of others from those who may not see them. */
async function findHolder(path: string): Promise<string> {
  const unknown = 'another egress25'
  try {
    const pid = await holderOf(path, 'POSIX')
    if (pid !== null) {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      const words = command.split('\0').filter((word) => word !== '')
      const name = words.slice(words.findIndex((word) => /cli\.ts$/.test(word)) + 1).join(' ')
      return `another egress25 (process ${pid}${name === '' ? '' : `: ${name.slice(0, 100)}`})`
    }
  } catch {
    // As well said without.
  }
  return unknown
}

/** The process that holds a lock of a kind on a file or folder; null when none does. */
async function holderOf(path: string, kind: 'FLOCK' | 'POSIX'): Promise<string | null> {
  const { ino } = statSync(path)
  // 1: POSIX  ADVISORY  WRITE 4711 fe:00:2146521 1073741824 1073742335
  const held = new RegExp(`^\\d+: ${kind} .* WRITE (\\d+) \\w+:\\w+:${ino} `, 'm')
  return held.exec(await readFile('/proc/locks', 'utf8'))?.[1] ?? null
}

/**
 * The files by which a change that waits for its confirmation is known to everybody: this program, the guard that takes
 * it back (scripts/rollback-guard), and whoever comes after a crash. Nothing here touches the kernel.
 *
 * | file | what |
 * |---|---|
 * | `pending` | the change that waits, as one line: `ID SECONDS DEADLINE DIGEST` |
 * | `unconfirmed.nft` | its ruleset, the next boot file |
 * | `guard` | the change that a guard watches over; gone when everything about it is done |
 * | `rolled-back` | the former `pending`, after it was taken back: its ruleset is held |
 * | `confirmed` | the former `pending`, until `unconfirmed.nft` has become the boot file |
 *
 * Whoever renames `pending` has decided what becomes of it: a rename succeeds for one alone.
 */
import { access, chmod, mkdir, readFile, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { syncFolder, writeFileAtomically } from '../../kernel/atomic-file.ts'
import { BOOT_FILE } from '../../kernel/boot-file.ts'
import { KernelError } from '../../kernel/kernel-error.ts'
import { parseDuration } from '../../policy/formats.ts'

/** A change that is in force until somebody confirms it, or its time is up. */
export interface Pending {
  /** Random, 16 hexadecimal digits. */
  readonly id: string
  /** How long it may wait. */
  readonly seconds: number
  /** Seconds since the machine was switched on (CLOCK_BOOTTIME), rounded up: steps of the clock do not move it. */
  readonly deadline: number
  /** Of the unconfirmed ruleset, in hexadecimal. */
  readonly digest: string
}

const SHORTEST = 5
const LONGEST = 3_600

/** What is wrong with a time that `parseConfirm` does not take. */
export const CONFIRM_RANGE = 'the time for a confirmation is a duration from 5s to 1h'

/** Seconds of a duration such as `60s`; null when it is none, or not between 5 s and 1 h. */
export function parseConfirm(text: string): number | null {
  const seconds = (parseDuration(text) ?? 0) / 1_000
  return seconds >= SHORTEST && seconds <= LONGEST ? seconds : null
}

const PENDING = 'pending'
const UNCONFIRMED = 'unconfirmed.nft'
const GUARD = 'guard'
const ROLLED_BACK = 'rolled-back'
const CONFIRMED = 'confirmed'

const LINE = /^([0-9a-f]{16}) (\d{1,6}) (\d{1,12}) ([0-9a-f]{32})\n$/

/** Readable for the guard, which may be another user of the same group, whatever the umask says. */
const MODE = 0o640

export class ConfirmationFiles {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  /** The change that waits; null when none does. */
  pending(): Promise<Pending | null> {
    return this.#read(PENDING)
  }

  /** The change that was taken back last, unless it was brought into force since. */
  rolledBack(): Promise<Pending | null> {
    return this.#read(ROLLED_BACK)
  }

  /** Whether a guard says that it watches over the change, or is not done with it. */
  async isGuarded({ id }: Pending): Promise<boolean> {
    return (await readFile(this.#path(GUARD), 'utf8').catch(() => '')).trim() === id
  }

  /**
   * Makes it known, durably, that a change will be in force without being confirmed.
   * @param script what the boot file shall be once it is confirmed
   * @throws Error (EROFS, ENOSPC, EACCES, …): then no change is known
   */
  async begin(pending: Pending, script: string): Promise<void> {
    const { id, seconds, deadline, digest } = pending
    await mkdir(this.directory, { recursive: true, mode: 0o750 })
    await this.#write(UNCONFIRMED, script)
    // The guard must be able to read what it goes back to; what belongs to somebody else has been made so by them.
    await chmod(this.#path(BOOT_FILE), MODE).catch(() => {})
    await this.#write(PENDING, `${id} ${seconds} ${deadline} ${digest}\n`)
  }

  /**
   * Decides what becomes of the change that waits. False when somebody else has decided already.
   * @throws Error (EROFS, EACCES, …): then nobody has, and others cannot either
   */
  async claim(outcome: 'confirmed' | 'rolled-back'): Promise<boolean> {
    try {
      await rename(this.#path(PENDING), this.#path(outcome === 'confirmed' ? CONFIRMED : ROLLED_BACK))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
    await syncFolder(this.directory)
    return true
  }

  /** Forgets a change that never came into force. False when somebody else has decided about it. */
  async withdraw(pending: Pending): Promise<boolean> {
    const mine = await this.#remove(PENDING)
    await this.finish(pending)
    return mine
  }

  /** Makes the confirmed ruleset the boot file. @throws Error; then the boot file is the one from before */
  async keep(): Promise<void> {
    try {
      await rename(this.#path(UNCONFIRMED), this.#path(BOOT_FILE))
      await syncFolder(this.directory)
    } finally {
      await this.#remove(CONFIRMED)
    }
  }

  /** Brings a confirmation to its end that a crash cut short. */
  async keepConfirmed(): Promise<void> {
    if ((await this.#read(CONFIRMED)) === null) return
    if (await exists(this.#path(UNCONFIRMED))) await this.keep()
    else await this.#remove(CONFIRMED)
  }

  /** Tells the guard that all is done. */
  async finish(pending: Pending): Promise<void> {
    if (await this.isGuarded(pending)) await this.#remove(GUARD)
    await this.#remove(UNCONFIRMED)
  }

  /** Ends the hold on what was taken back; answers how to put it back. */
  async release(): Promise<() => Promise<void>> {
    const text = await readFile(this.#path(ROLLED_BACK), 'utf8').catch(() => null)
    if (text === null || !(await this.#remove(ROLLED_BACK))) return async () => {}
    return () => this.#write(ROLLED_BACK, text)
  }

  /** @throws Error when it cannot be known whether the file is there */
  async #read(name: string): Promise<Pending | null> {
    const text = await readFile(this.#path(name), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return ''
      if (error.code !== 'EACCES') throw error
      throw new KernelError('not-permitted', `${error.message}: to change the rules needs root`)
    })
    const match = LINE.exec(text)
    if (match === null) return null
    const [, id = '', seconds, deadline, digest = ''] = match
    return { id, seconds: Number(seconds), deadline: Number(deadline), digest }
  }

  async #write(name: string, text: string): Promise<void> {
    await writeFileAtomically(this.#path(name), text, MODE)
    await chmod(this.#path(name), MODE)
  }

  #remove(name: string): Promise<boolean> {
    return unlink(this.#path(name)).then(
      () => true,
      () => false,
    )
  }

  #path(name: string): string {
    return join(this.directory, name)
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

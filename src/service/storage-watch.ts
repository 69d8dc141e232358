/** Looks again and again whether what the service must keep can be written, which others may learn of only when it is too late. */
import { unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Finding } from '../kernel/preflight.ts'
import type { LogOutput } from './log.ts'

/** Milliseconds between looks, and while something is wrong. */
const INTERVAL = 10_000
const SOON = 1_000
/** Bytes: about what a change takes in the database. */
const ROOM = Buffer.alloc(65_536)

export interface StorageWatchOptions {
  readonly stateDirectory: string
  readonly log: LogOutput
  /** Something is wrong that was not, or no longer. */
  readonly onChanged: () => void
}

export class StorageWatch {
  readonly #options: StorageWatchOptions
  #findings: readonly Finding[] = []
  #timer: NodeJS.Timeout | null = null
  #stopped = false

  constructor(options: StorageWatchOptions) {
    this.#options = options
  }

  /** As of the last look. */
  get findings(): readonly Finding[] {
    return this.#findings
  }

  start(): void {
    void this.#look().finally(() => {
      if (this.#stopped) return
      this.#timer = setTimeout(() => this.start(), this.#findings.length === 0 ? INTERVAL : SOON)
    })
  }

  stop(): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  async #look(): Promise<void> {
    const { stateDirectory, log, onChanged } = this.#options
    const state = await faultOf(stateDirectory)
    const found: Finding[] = []
    if (state !== null)
      found.push({
        code: 'state-unwritable',
        message: `nothing can be kept in ${stateDirectory} (${state}): changes are refused, and incidents and alerts may be lost`,
      })
    if (log.failure !== null)
      found.push({ code: 'log-unwritable', message: `the log cannot be written (${codeOf(log.failure)})` })
    const before = this.#findings
    this.#findings = found
    const messages = (findings: readonly Finding[]) => findings.map(({ message }) => message).join()
    if (!this.#stopped && messages(before) !== messages(found)) onChanged()
  }
}

/** Why a folder takes no file; null: it does. */
async function faultOf(folder: string): Promise<string | null> {
  const path = join(folder, `room.${process.pid}.new`)
  try {
    await writeFile(path, ROOM, { mode: 0o600 })
    return null
  } catch (error) {
    return codeOf(error as Error)
  } finally {
    await unlink(path).catch(() => {})
  }
}

function codeOf(error: NodeJS.ErrnoException): string {
  return error.code ?? error.message
}

/**
 * The documents in force, copied beside the ruleset for the next boot. A service that starts on policies with a mistake,
 * or on such as were taken back, would else enforce rules of which it knows neither the policies nor the thresholds.
 *
 * The copy is not synced and may be torn: it is believed only when it compiles to what the kernel holds.
 */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Loaded } from '../../policy/load.ts'

const FOLDER = 'documents'

/** What a file was copied from: a YAML file's text, or the prefixes of a list. */
type Known = string | object

export class KeptDocuments {
  /** Where the copy is. */
  readonly directory: string
  readonly #policies: string
  /** What the copy has; null until it was looked at. */
  #copied: Map<string, Known> | null = null
  #next: Loaded | null = null
  #copying: Promise<void> | null = null

  constructor(stateDirectory: string, policyDirectory: string) {
    this.directory = join(stateDirectory, FOLDER)
    this.#policies = policyDirectory
  }

  /** Copies what has changed since, when it comes to it; of several changes the latest. */
  keep(loaded: Loaded): void {
    this.#next = loaded
    this.#copying ??= this.#copyAll().finally(() => {
      this.#copying = null
    })
  }

  /** Once everything is copied. */
  async settled(): Promise<void> {
    await this.#copying
  }

  async #copyAll(): Promise<void> {
    while (this.#next !== null) {
      const loaded = this.#next
      this.#next = null
      // A copy that cannot be made (a full disk) is missed after a restart on bad policies only.
      await this.#copy(loaded).catch(() => {})
    }
  }

  async #copy(loaded: Loaded): Promise<void> {
    this.#copied ??= await this.#look()
    const copied = this.#copied
    const wanted = filesOf(loaded)
    for (const path of copied.keys()) {
      if (wanted.has(path)) continue
      await rm(join(this.directory, path), { force: true })
      copied.delete(path)
    }
    for (const [path, known] of wanted) {
      if (copied.get(path) === known) continue
      copied.delete(path)
      const to = join(this.directory, path)
      await mkdir(dirname(to), { recursive: true, mode: 0o750 })
      if (typeof known === 'string') await writeFile(to, known, { mode: 0o640 })
      else await copyFile(join(this.#policies, path), to)
      copied.set(path, known)
    }
  }

  /** What another process has copied. */
  async #look(): Promise<Map<string, Known>> {
    const copied = new Map<string, Known>()
    const entries = await readdir(this.directory, { recursive: true, withFileTypes: true }).catch(() => [])
    for (const entry of entries.filter((one) => one.isFile())) {
      const whole = join(entry.parentPath, entry.name)
      const isYaml = /\.ya?ml$/.test(entry.name)
      copied.set(whole.slice(this.directory.length + 1), isYaml ? await readFile(whole, 'utf8') : {})
    }
    return copied
  }
}

/** The files that the documents in force stand in. */
function filesOf({ files, lists, documents }: Loaded): Map<string, Known> {
  const wanted = new Map<string, Known>(files)
  for (const { document } of documents) {
    if (document.kind !== 'list' || document.file === undefined) continue
    wanted.set(document.file, lists.get(document.name) ?? {})
  }
  return wanted
}

/**
 * Makes a trial that fails as small as it can be while it still fails: as few packets as it takes, which is mostly one,
 * then documents, then entries, then keys, and again until nothing more can go.
 */
import type { Arena } from './arena.ts'
import { type Compile, check, type Finding, type Trial } from './differential.ts'
import { type Document, PLAIN_GATEWAY, sound } from './random.ts'

export interface Shrunk {
  readonly trial: Trial
  readonly finding: Finding
  /** How many trials it took. */
  readonly trials: number
}

/** Shrinks a trial of which `finding` is known. */
export async function shrink(
  arena: Arena,
  trial: Trial,
  finding: Finding,
  compiler?: Compile,
): Promise<Shrunk> {
  return new Shrinker(arena, { trial, finding, trials: 0 }, compiler).run()
}

class Shrinker {
  readonly #arena: Arena
  readonly #compiler: Compile | undefined
  #best: Shrunk

  constructor(arena: Arena, best: Shrunk, compiler?: Compile) {
    this.#arena = arena
    this.#best = best
    this.#compiler = compiler
  }

  async run(): Promise<Shrunk> {
    await this.#packets()
    for (let size = -1; size !== this.#size(); ) {
      size = this.#size()
      await this.#fewer(this.#best.trial.directory.documents, (documents) => this.#withDocuments(documents))
      await this.#gateway()
      await this.#inside()
      await this.#fewer(this.#best.trial.packets, (packets) => ({ ...this.#best.trial, packets }))
    }
    return this.#best
  }

  /** How much there is to read. */
  #size(): number {
    const { directory, gateway, packets } = this.#best.trial
    return directory.yaml.length + JSON.stringify(gateway).length + packets.length
  }

  /** A packet that is known to be at fault, alone; or else by halves. */
  async #packets(): Promise<void> {
    const { trial, finding } = this.#best
    for (const culprit of finding.culprits.slice(0, 3)) {
      if (await this.#holds({ ...trial, packets: [trial.packets[culprit]!] })) return
    }
    await this.#fewer(trial.packets, (packets) => ({ ...this.#best.trial, packets }))
  }

  /** Takes away parts of a list, larger ones first, for as long as it still fails. */
  async #fewer<T>(all: readonly T[], without: (rest: readonly T[]) => Trial): Promise<void> {
    let rest = all
    for (let part = Math.ceil(rest.length / 2); part >= 1; part = part === 1 ? 0 : Math.ceil(part / 2)) {
      for (let at = 0; at < rest.length && rest.length > part; ) {
        const smaller = [...rest.slice(0, at), ...rest.slice(at + part)]
        if (await this.#holds(without(smaller))) rest = smaller
        else at += part
      }
    }
  }

  async #gateway(): Promise<void> {
    const { gateway } = this.#best.trial
    for (const simpler of [
      PLAIN_GATEWAY,
      { ...gateway, outsideInterfaces: [] },
      { ...gateway, hooks: PLAIN_GATEWAY.hooks },
    ]) {
      const { trial } = this.#best
      if (JSON.stringify(simpler) !== JSON.stringify(trial.gateway))
        await this.#holds({ ...trial, gateway: simpler })
    }
  }

  /** Keys that need not be there, and entries of lists of which one is enough. */
  async #inside(): Promise<void> {
    for (const { kind, name } of this.#best.trial.directory.documents) {
      const current = () =>
        this.#best.trial.directory.documents.find((one) => one.kind === kind && one.name === name)
      const replaced = (by: Document) =>
        this.#withDocuments(this.#best.trial.directory.documents.map((one) => (one === current() ? by : one)))
      for (const key of Object.keys(current() ?? {})) {
        const document = current()
        if (document === undefined || REQUIRED.has(key)) continue
        const { [key]: _, ...rest } = document
        await this.#holds(replaced(rest as Document))
      }
      for (const [key, value] of Object.entries(current() ?? {})) {
        if (!Array.isArray(value)) continue
        await this.#fewer(value, (entries) => replaced({ ...current()!, [key]: entries }))
      }
    }
  }

  #withDocuments(documents: readonly Document[]): Trial {
    return { ...this.#best.trial, directory: sound(documents) }
  }

  /** Whether it still fails; if so, it is the best so far. */
  async #holds(trial: Trial): Promise<boolean> {
    const trials = this.#best.trials + 1
    const finding = await check(this.#arena, trial, this.#compiler).catch(unsound)
    const failed = finding !== null && finding.faults.length > 0
    this.#best = failed ? { trial, finding, trials } : { ...this.#best, trials }
    return failed
  }
}

const REQUIRED = new Set(['kind', 'name', 'networks', 'addresses', 'sources', 'prefixes', 'expect'])

/** A directory that lost what it needs is no failure of the kernel. */
function unsound(): null {
  return null
}

/** A policy directory to what can be applied: read, checked, tested, compiled. */
import { compile } from '../../compile/compile.ts'
import type { CompileOptions } from '../../compile/options.ts'
import type { Compiled } from '../../plan/plan.ts'
import type { Overlay } from '../../policy/files.ts'
import { type Loaded, LoadMemory, loadPolicies } from '../../policy/load.ts'
import { relayUsers } from '../../policy/model.ts'
import { PolicyError } from '../../policy/policy-error.ts'
import { runPolicyTests } from '../../policy/policy-tests.ts'

export interface PolicyDirectoryOptions {
  readonly directory: string
  readonly compile: CompileOptions
  /** Ids of local users by name. */
  readonly findUserIds: (names: readonly string[]) => Promise<ReadonlyMap<string, number>>
  readonly now: () => number
}

/** Remembers what it has read: to look again costs what has changed since. */
export class PolicyDirectory {
  readonly #options: PolicyDirectoryOptions
  readonly #memory = new LoadMemory()

  constructor(options: PolicyDirectoryOptions) {
    this.#options = options
  }

  /** As it stands, or as it would with other texts in it; also with mistakes. @throws DirectoryError */
  load(overlay?: Overlay, before?: Loaded): Promise<Loaded> {
    const { directory, now, compile } = this.#options
    const { outsideInterfaces } = compile
    return loadPolicies(directory, {
      now: now(),
      ...(overlay === undefined ? {} : { overlay }),
      outsideInterfaces,
      memory: this.#memory,
      before,
    })
  }

  /**
   * @param before what was loaded a moment ago, where nobody else's edits since then are wanted
   * @throws PolicyError when there are mistakes in it or a policy test fails; DirectoryError
   */
  async prepare(overlay?: Overlay, before?: Loaded): Promise<Compiled> {
    const compiled = await this.prepareUntested(overlay, before)
    const { loaded, model } = compiled
    const failed = runPolicyTests(model, this.#options.now()).filter(({ passed }) => !passed)
    if (failed.length > 0) throw new PolicyError(loaded.diagnostics, failed)
    return compiled
  }

  /** The same for what was in force once: an exemption that has expired since may be why a test fails. */
  async prepareUntested(overlay?: Overlay, before?: Loaded): Promise<Compiled> {
    const loaded = await this.load(overlay, before)
    if (loaded.model === null) throw new PolicyError(loaded.diagnostics)
    const uids = await this.#options.findUserIds(relayUsers(loaded.model))
    return { loaded, model: loaded.model, ruleset: compile(loaded.model, { ...this.#options.compile, uids }) }
  }
}

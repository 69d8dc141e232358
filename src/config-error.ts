/** What is wrong with a configuration. */
import type { Diagnostic } from './policy/diagnostic.ts'

/** The configuration cannot be used; every reason, with its place. */
export class ConfigError extends Error {
  readonly diagnostics: readonly Diagnostic[]

  constructor(message: string, diagnostics: readonly Diagnostic[] = []) {
    super(message)
    this.diagnostics = diagnostics
  }
}

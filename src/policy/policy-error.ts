/** Why a policy directory was not applied. */
import type { Diagnostic } from './diagnostic.ts'
import type { ExpectationResult } from './policy-tests.ts'

/** The documents have mistakes, or their tests fail; the old rules are in force. */
export class PolicyError extends Error {
  readonly diagnostics: readonly Diagnostic[]
  readonly failedTests: readonly ExpectationResult[]

  constructor(diagnostics: readonly Diagnostic[], failedTests: readonly ExpectationResult[] = []) {
    const { length } = failedTests
    const failing = length === 1 ? 'a policy test fails' : `${length} policy tests fail`
    super(`${length > 0 ? failing : 'the policies have mistakes'}; nothing was changed`)
    this.diagnostics = diagnostics
    this.failedTests = failedTests
  }
}

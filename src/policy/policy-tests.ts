/** Runs the `kind: test` documents of a model against the reference verdict. */
import { type Explanation, explain } from './explain.ts'
import type { Expectation, Model } from './model.ts'

export interface ExpectationResult {
  readonly test: string
  readonly expectation: Expectation
  readonly passed: boolean
  readonly found: Explanation
}

/** One result for each expectation, in the order of the documents. `now` is in milliseconds since the epoch. */
export function runPolicyTests(model: Model, now: number): ExpectationResult[] {
  return model.tests.flatMap((test) =>
    test.expect.map((expectation) => {
      const found = explain(model, expectation, now)
      // To let a packet through is to allow it, whether or not a policy was asked.
      const passes = expectation.verdict === 'allow' && found.verdict === 'ungoverned'
      return { test: test.name, expectation, passed: passes || found.verdict === expectation.verdict, found }
    }),
  )
}

/** `egress25 test DIR`: runs the `kind: test` documents. */
import { loadPolicies } from '../policy/load.ts'
import { type ExpectationResult, runPolicyTests } from '../policy/policy-tests.ts'
import { formatAddress } from '../policy/prefix.ts'
import { complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'

export async function test(directory: string, { json }: { json: boolean }): Promise<Exit> {
  const now = Date.now()
  const { model, diagnostics } = await loadPolicies(directory, now)
  if (model === null) {
    if (json) printJson({ diagnostics, results: [] })
    else complainOf(diagnostics)
    return EXIT.no
  }
  const results = runPolicyTests(model, now)
  const failed = results.filter(({ passed }) => !passed)
  if (json) printJson({ diagnostics, results: results.map(toJson) })
  else {
    complainOf(diagnostics)
    for (const result of results) print(formatResult(result))
    print(`${results.length - failed.length} passed, ${failed.length} failed`)
  }
  return failed.length === 0 ? EXIT.done : EXIT.no
}

export function formatResult({ test: name, expectation, passed, found }: ExpectationResult): string {
  const { source, destination, port, verdict, origin } = expectation
  const what = `${formatAddress(source)} to ${formatAddress(destination)} port ${port}: ${verdict}`
  if (passed) return `ok      ${name}: ${what}`
  return `FAILED  ${name}: ${what}, but ${found.reason} (${origin.file}:${origin.line}:${origin.column})`
}

function toJson({ test: name, expectation, passed, found }: ExpectationResult) {
  const { source, destination, port, verdict, origin } = expectation
  return {
    test: name,
    passed,
    from: formatAddress(source),
    to: formatAddress(destination),
    port,
    expected: verdict,
    found,
    ...origin,
  }
}

/** `egress25 test [DIR]`: runs the `kind: test` documents. */
import { lstat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { readConfig } from '../config/config.ts'
import { writeFileAtomically } from '../kernel/atomic-file.ts'
import { hasErrors } from '../policy/diagnostic.ts'
import { loadPolicies } from '../policy/load.ts'
import type { Expectation } from '../policy/model.ts'
import { type ExpectationResult, runPolicyTests } from '../policy/policy-tests.ts'
import { formatAddress } from '../policy/prefix.ts'
import { complain, complainOf, EXIT, type Exit, print, printJson } from './outcome.ts'

export interface TestOptions {
  readonly json: boolean
  readonly config: string | null
  /** A file to write a JUnit report to. */
  readonly junit?: string
}

/** @param named null: the directory that the configuration names */
export async function test(named: string | null, { json, config, junit }: TestOptions): Promise<Exit> {
  const fault = junit === undefined ? null : await faultOfTarget(junit)
  if (fault !== null) {
    complain(`egress25: cannot write the report "${junit}": ${fault}`)
    return EXIT.usage
  }
  const directory = named ?? (await readConfig(config)).policyDirectory
  const startedAt = Date.now()
  const started = performance.now()
  const { model, diagnostics } = await loadPolicies(directory, { now: startedAt })
  const results = model === null ? [] : runPolicyTests(model, startedAt)
  const milliseconds = performance.now() - started
  const failed = results.filter(({ passed }) => !passed)
  if (json) printJson({ diagnostics, results: results.map(toJson) })
  else {
    complainOf(diagnostics)
    for (const result of results) print(formatResult(result))
    if (model !== null) print(`${results.length - failed.length} passed, ${failed.length} failed`)
  }
  if (junit !== undefined) {
    const { renderJunit } = await import('./junit.ts')
    const errors = diagnostics.filter((one) => hasErrors([one]))
    const titled = results.map((result) => ({ ...result, title: titleOf(result.expectation) }))
    const report = renderJunit({ directory, startedAt, milliseconds, errors, results: titled })
    try {
      await writeFileAtomically(junit, report)
    } catch (error) {
      complain(`egress25: cannot write the report "${junit}": ${(error as Error).message}`)
      return EXIT.usage
    }
  }
  return model !== null && failed.length === 0 ? EXIT.done : EXIT.no
}

/**
 * Why a report cannot be put there; null: it can. Said before anything is run. What is no file stays what it is: a
 * new file would take the place of /dev/null, or of a link to where the report is wanted.
 */
async function faultOfTarget(path: string): Promise<string | null> {
  if (path === '') return 'that is no name'
  const folder = await lstat(`${dirname(path)}/`).catch(() => null)
  if (folder === null || !folder.isDirectory()) return `there is no folder ${dirname(path)}`
  const target = await lstat(path).catch(() => null)
  return target === null || target.isFile() ? null : 'it is there, and is no regular file'
}

export function formatResult({ test: name, expectation, passed, found }: ExpectationResult): string {
  const what = `${name}: ${titleOf(expectation)}`
  if (passed) return `ok      ${what}`
  const { file, line, column } = expectation.origin
  return `FAILED  ${what}, but ${found.reason} (${file}:${line}:${column})`
}

function titleOf({ source, destination, port, user, verdict }: Expectation): string {
  const sender = user === null ? '' : `user ${user} at `
  return `${sender}${formatAddress(source)} to ${formatAddress(destination)} port ${port}: ${verdict}`
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

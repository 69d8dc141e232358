/** What `apply` and `plan` have in common when they ask the service. */
import { realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { callService } from '../client/client.ts'
import type { Config } from '../config/config.ts'
import type { Diagnostic } from '../policy/diagnostic.ts'
import { argumentAt } from './argument-names.ts'
import { complain, complainOf, EXIT, type Exit, printJson } from './outcome.ts'
import { visible } from './table.ts'

/**
 * Whether a directory is the one that the running service enforces; says so when it is not.
 * @param directory null: whichever it enforces
 * @throws UnreachableError when no service runs
 */
export async function isServed(directory: string | null, { listen }: Config): Promise<boolean> {
  const { body } = await callService(listen, 'GET', '/v1/status')
  const running = String((body as { policy_directory?: unknown } | null)?.policy_directory)
  if (directory === null || (await canonical(directory)) === (await canonical(running))) return true
  complain(`egress25: the running service enforces ${running}, not ${directory}`)
  return false
}

/** What a problem may have besides its sentence. */
interface Problem {
  readonly code?: string
  readonly detail?: string
  readonly diagnostics?: readonly Diagnostic[]
  readonly errors?: readonly { readonly pointer: string; readonly message: string }[]
  readonly failures?: readonly {
    readonly test: string
    readonly file: string
    readonly line: number
    readonly expected: string
    readonly found: { readonly verdict: string }
  }[]
  readonly incidents?: readonly { readonly id: string; readonly source: string; readonly summary: string }[]
}

/** What helps where the service cannot know who reads its answer. */
const HINTS: Readonly<Record<string, string>> = {
  unauthenticated: 'EGRESS25_TOKEN_FILE names the file with the token; root needs none at the socket',
  'open-incident': 'if it is to be exempt all the same: --override-incident --reason WHY',
  'four-eyes': 'egress25 exempt requests lists what waits for somebody',
  'precondition-failed': 'egress25 exempt show says how it is; exempt extend gives it another end',
}

/** Shows a problem (RFC 9457) that the service answered with. */
export function complainOfProblem(status: number, body: unknown, { json }: { json: boolean }): Exit {
  const problem = (body ?? {}) as Problem
  const { code = '', detail = `the service answered ${status}`, errors = [] } = problem
  if (code === 'bad-request' && errors.length > 0) {
    if (json) printJson(body)
    else for (const { pointer, message } of errors) complain(`egress25: ${argumentAt(pointer)} ${message}`)
    return EXIT.usage
  }
  if (json) printJson(body)
  else {
    complainOf(problem.diagnostics ?? [])
    complain(`egress25: ${detail}`)
    for (const { pointer, message } of errors)
      if (!detail.endsWith(message)) complain(`  ${pointer}: ${message}`)
    for (const { test, file, line, expected, found } of problem.failures ?? [])
      complain(`  ${file}:${line}: the test ${test} would fail: ${found.verdict}, not ${expected}`)
    for (const { id, source, summary } of problem.incidents ?? [])
      complain(`  ${id}: ${source}: ${visible(summary)}`)
    if (HINTS[code] !== undefined) complain(`  ${HINTS[code]}`)
  }
  return code === 'kernel-refused' ? EXIT.kernel : EXIT.no
}

/** The path without links; one that does not exist is told of when it is read. */
function canonical(path: string): Promise<string> {
  return realpath(path).catch(() => resolve(path))
}

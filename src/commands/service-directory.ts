/** What `apply` and `plan` have in common when they ask the service. */
import { realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { callService } from '../client.ts'
import type { Config } from '../config.ts'
import type { Diagnostic } from '../policy/diagnostic.ts'
import { complain, complainOf, EXIT, type Exit, printJson } from './outcome.ts'

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

/** Shows a problem (RFC 9457) that the service answered with. */
export function complainOfProblem(status: number, body: unknown, { json }: { json: boolean }): Exit {
  const problem = body as { code?: string; detail?: string; diagnostics?: Diagnostic[] } | null
  if (json) printJson(body)
  else {
    complainOf(problem?.diagnostics ?? [])
    complain(`egress25: ${problem?.detail ?? `the service answered ${status}`}`)
  }
  return problem?.code === 'kernel-refused' ? EXIT.kernel : EXIT.no
}

/** The path without links; one that does not exist is told of when it is read. */
function canonical(path: string): Promise<string> {
  return realpath(path).catch(() => resolve(path))
}

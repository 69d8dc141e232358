/** `egress25 check [DIR]`: reads everything, says all that is wrong with it. */
import { readConfig } from '../config/config.ts'
import { hasErrors } from '../policy/diagnostic.ts'
import { loadPolicies } from '../policy/load.ts'
import { counted, diagnosticLines, EXIT, type Exit, print, printJson } from './outcome.ts'

export interface CheckOptions {
  readonly json: boolean
  readonly config: string | null
  /** Whether to show the lines that diagnostics speak of. */
  readonly excerpts: boolean
}

/** @param directory null: the one that the configuration names */
export async function check(
  directory: string | null,
  { json, config, excerpts }: CheckOptions,
): Promise<Exit> {
  const { compile, policyDirectory } = await readConfig(config)
  const { model, diagnostics } = await loadPolicies(directory ?? policyDirectory, {
    now: Date.now(),
    outsideInterfaces: compile.outsideInterfaces,
  })
  if (json) printJson({ diagnostics })
  else {
    for (const line of diagnosticLines(diagnostics, excerpts)) print(line)
    if (model !== null) {
      const { policies, relays, exemptions, tests } = model
      print(
        `ok: ${counted(policies.length, 'policy', 'policies')}, ${counted(relays.length, 'relay', 'relays')}, ` +
          `${counted(exemptions.length, 'exemption', 'exemptions')}, ${counted(tests.length, 'test', 'tests')}`,
      )
    }
  }
  return hasErrors(diagnostics) ? EXIT.no : EXIT.done
}

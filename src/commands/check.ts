/** `egress25 check DIR`: reads everything, says all that is wrong with it. */
import { formatDiagnostic, hasErrors } from '../policy/diagnostic.ts'
import { loadPolicies } from '../policy/load.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'

export async function check(directory: string, { json }: { json: boolean }): Promise<Exit> {
  const { model, diagnostics } = await loadPolicies(directory, Date.now())
  if (json) printJson({ diagnostics })
  else {
    for (const diagnostic of diagnostics) print(formatDiagnostic(diagnostic))
    if (model !== null) {
      const { policies, relays, exemptions, tests } = model
      const count = (items: readonly unknown[], one: string, many: string) =>
        `${items.length} ${items.length === 1 ? one : many}`
      print(
        `ok: ${count(policies, 'policy', 'policies')}, ${count(relays, 'relay', 'relays')}, ` +
          `${count(exemptions, 'exemption', 'exemptions')}, ${count(tests, 'test', 'tests')}`,
      )
    }
  }
  return hasErrors(diagnostics) ? EXIT.no : EXIT.done
}

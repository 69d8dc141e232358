/** Who tried port 25 lately, for a plan to say whom a change touches. */
import { machineIn } from '../../compile/compile-policies.ts'
import type { Ruleset } from '../../compile/ruleset.ts'
import type { Enforcer } from '../../kernel/enforcer.ts'
import type { TriedSource } from '../../plan/traffic-changes.ts'
import { learnedSet } from '../../watch/source-counters.ts'

/** Who tried port 25 in the last 24 hours, as far as the kernel keeps count of machines. */
export async function triedSources(
  inForce: { readonly ruleset: Ruleset } | null,
  enforcer: Enforcer,
): Promise<TriedSource[]> {
  const sets = inForce?.ruleset.learned.filter(({ name }) => learnedSet(name)?.allowed === false) ?? []
  const tried: TriedSource[] = []
  for (const { name } of sets) {
    for (const { address, packets } of await enforcer.countSources(name)) {
      const machine = machineIn(name, address)
      if (machine !== null) tried.push({ machine, attempts: packets })
    }
  }
  return tried
}

/** The names that conditions of the old rules speak of. */
import type { Remarks } from './remark.ts'
import type { Condition, Firewall } from './rule.ts'

/** Interfaces or users that rules speak of; of very many only the first are answered, and that is told. */
export function namesInRules(
  firewall: Firewall,
  is: 'leaves-by' | 'user',
  most: number,
  remarks: Remarks,
): string[] {
  const found = new Set<string>()
  for (const { rules } of firewall.chains.values()) {
    for (const { conditions } of rules) {
      if (conditions.some((condition) => condition.is === 'never')) continue
      for (const condition of conditions) {
        if (condition.is !== is) continue
        const names = condition.is === 'user' ? condition.users : namesOf(condition)
        for (const name of names) if (name !== 'lo') found.add(name)
      }
    }
  }
  if (found.size > most) {
    const what = is === 'user' ? 'users' : 'interfaces'
    const message = `of ${found.size} ${what} in the rules only ${most} were looked at`
    remarks.add('error', 'not-translated', '', message)
  }
  return [...found].slice(0, most)
}

function namesOf(condition: Condition): readonly string[] {
  return condition.is === 'leaves-by' ? condition.names : []
}

/** What would keep a wish for an exemption from ever being granted, said to the one who asks. Pure. */
import type { Problem } from '../../policy/diagnostic.ts'
import { parseTimestamp } from '../../policy/formats.ts'
import type { Loaded } from '../../policy/load.ts'
import type { ExemptionDocument } from '../../policy/schema.ts'
import { pointerTo } from '../../policy/shape.ts'
import { findDocument } from '../changes/document-change.ts'

/**
 * @param policies that are in force; null: nobody knows
 * @param now milliseconds since the epoch
 */
export function whyNever(
  exemption: ExemptionDocument,
  policies: Pick<Loaded, 'documents'> | null,
  now: number,
): Problem[] {
  const { name, expires } = exemption
  const problems: Problem[] = []
  const end = expires === undefined ? null : parseTimestamp(expires)
  if (end !== null && end <= now)
    problems.push({ pointer: '/expires', code: 'bad-value', message: 'that is over already' })
  if (policies === null) return problems
  if (findDocument(policies, 'exemption', name) !== null) {
    const message = `there is an exemption ${name} already: leave the name out, or have that one extended`
    problems.push({ pointer: '/name', code: 'duplicate-name', message })
  }
  for (const key of ['sources', 'destinations'] as const) {
    for (const [index, entry] of (exemption[key] ?? []).entries()) {
      const list = entry.startsWith('@') ? entry.slice(1) : null
      if (list === null || findDocument(policies, 'list', list) !== null) continue
      const pointer = pointerTo(`/${key}`, index)
      problems.push({ pointer, code: 'dangling-list', message: `there is no list ${list}` })
    }
  }
  return problems
}

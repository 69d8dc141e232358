/** What is said with a change that exempts a host although it has an open incident. */
import { type Static, Type } from 'typebox'
import type { ProblemCode } from '../http/problem.ts'
import { object, oneOf } from '../schemas.ts'

/** For the query of a route. */
export const OverrideQuery = object({
  override_incident: Type.Optional(
    oneOf(['true', 'false'], { description: 'true: although a host has an open incident; needs a reason' }),
  ),
})

/** What such a route may answer besides. */
export const OVERRIDE_PROBLEMS = [
  'open-incident',
  'reason-required',
] as const satisfies readonly ProblemCode[]

/** Whether a query says so; that of a route that does not know it never does. */
export function overridesIncident(query: object | Static<typeof OverrideQuery>): boolean {
  return 'override_incident' in query && query.override_incident === 'true'
}

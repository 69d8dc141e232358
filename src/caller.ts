/** Who asks for something, as far as that is known: named in logs, in the audit and in the history of changes. */

/** What somebody may do; each of the first three may also do what those before it may. */
export const ROLES = ['viewer', 'operator', 'admin', 'requester'] as const
export type Role = (typeof ROLES)[number]

export interface Caller {
  /** Of the token, the certificate or the local user. */
  readonly name: string
  readonly role: Role
  /** Of the request, to find it in logs; null: nobody asked over the API. */
  readonly requestId: string | null
}

/** The service itself: at its start, and when it reloads. */
export const SERVICE: Caller = { name: 'egress25', role: 'admin', requestId: null }

/** Several who asked for things that are done at once. At least one. */
export function allOf(callers: readonly Caller[]): Caller {
  const [first = SERVICE] = callers
  const names = new Set(callers.map(({ name }) => name))
  return callers.length <= 1 ? first : { ...first, name: [...names].join(', '), requestId: null }
}

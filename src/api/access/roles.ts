/** Which role may use what another role may. */
import type { Role } from '../../caller.ts'
import type { Access } from '../route.ts'

/** Requesters ask for exemptions and see their own requests; viewers see all, and ask for nothing. */
const INCLUDES: Readonly<Record<Role, readonly Access[]>> = {
  requester: ['public', 'any', 'requester'],
  viewer: ['public', 'any', 'viewer'],
  operator: ['public', 'any', 'viewer', 'requester', 'operator'],
  admin: ['public', 'any', 'viewer', 'requester', 'operator', 'admin'],
}

export function may(role: Role, access: Access): boolean {
  return INCLUDES[role].includes(access)
}

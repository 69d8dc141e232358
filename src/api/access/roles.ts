/** Which role may use what another role may. */
import type { Role } from '../../control/caller.ts'
import type { Access } from '../route.ts'

/** Requesters ask for exemptions and see their own: nothing that viewers see. */
const INCLUDES: Readonly<Record<Role, readonly Access[]>> = {
  requester: ['public', 'requester'],
  viewer: ['public', 'viewer'],
  operator: ['public', 'viewer', 'requester', 'operator'],
  admin: ['public', 'viewer', 'requester', 'operator', 'admin'],
}

export function may(role: Role, access: Access): boolean {
  return INCLUDES[role].includes(access)
}

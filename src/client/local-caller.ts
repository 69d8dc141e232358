/** Who runs a command, for the record. */
import { userInfo } from 'node:os'
import type { Caller } from '../caller.ts'

/** The user of this process; through sudo, who called it. Whoever may change the kernel may do everything. */
export function localCaller(env: NodeJS.ProcessEnv = process.env): Caller {
  return { name: env['SUDO_USER'] ?? nameOf(), role: 'admin', requestId: null }
}

/** A process may run under a number that has no name. */
function nameOf(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.getuid?.())
  }
}

/** Ids of local users, for rules about who made a packet. */
import type { ProcessRunner } from './process.ts'

/**
 * Looks names up as the system does (getent(1), so LDAP and the like count). A name that nobody has is left out: one
 * set of policies serves many gateways, and not each has a postfix.
 */
export async function findUserIds(
  names: readonly string[],
  run: ProcessRunner,
): Promise<Map<string, number>> {
  const ids = new Map<string, number>()
  if (names.length === 0) return ids
  const { stdout } = await run(['getent', 'passwd', ...names], { timeout: 10_000 })
  for (const line of stdout.split('\n')) {
    const [name, , uid] = line.split(':')
    if (name !== undefined && uid !== undefined && /^\d+$/.test(uid)) ids.set(name, Number(uid))
  }
  return ids
}

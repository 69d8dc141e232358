// Debian packages that are looked at without being installed.
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The folder with what is in them. @throws Error when they cannot be fetched */
export function unpacked(...packages: string[]): string {
  const script = fileURLToPath(new URL('../../lib/unpacked', import.meta.url))
  return execFileSync(script, packages, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim()
}

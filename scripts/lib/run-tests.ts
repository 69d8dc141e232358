/**
 * Runs test files, two at once, the longest first: run-tests.ts FILE...
 *
 * `tap run` would take them by name, and end with one file that runs alone for minutes. `TAP_TIMEOUT=0` in the environment lets them
 * take more than half a minute together.
 */
import { basename } from 'node:path'
import t from 'tap'

const LANES = 2
/** Seconds for a file. */
const TIMEOUT = 900

/** Those that take half a minute or more, the longest first; others follow by name. */
const LONGEST = [
  ...['systemd', 'killed', 'clock', 'confirm', 'properties', 'dashboard', 'history', 'drift', 'differential'],
  ...['service', 'faults', 'versions', 'access', 'command', 'git', 'turns'],
].map((name) => `${name}.test.ts`)

const rank = (file: string) => {
  const at = file.includes('system/') ? LONGEST.indexOf(basename(file)) : -1
  return at === -1 ? LONGEST.length : at
}

t.jobs = LANES
for (const file of process.argv.slice(2).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))) {
  t.spawn(process.execPath, ['--disable-warning=ExperimentalWarning', file], {
    name: file,
    buffered: true,
    timeout: TIMEOUT * 1_000,
    env: { ...process.env, TAP_TIMEOUT: `${TIMEOUT}` },
  })
}

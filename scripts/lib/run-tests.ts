/**
 * Runs test files, three at once, the longest first: run-tests.ts FILE...
 *
 * `tap run` would take them by name, and end with one file that runs alone for minutes. `TAP_TIMEOUT=0` in the environment lets them
 * take more than half a minute together.
 */
import t from 'tap'

/** With two processors: of two files at once, one waits a quarter of the time. */
const LANES = 3
/** Seconds for a file. */
const TIMEOUT = 900

/** Those that take half a minute or more, the longest first; others follow by name. */
const LONGEST = [
  ...[
    'system/clock',
    'system/systemd',
    'system/killed',
    'system/history',
    'system/properties',
    'system/dashboard',
  ],
  ...[
    'system/differential',
    'unit/corpus',
    'system/drift',
    'system/versions',
    'system/faults',
    'system/confirm',
  ],
  ...['system/git', 'system/service', 'system/access', 'system/command', 'system/turns'],
].map((name) => `${name}.test.ts`)

const rank = (file: string) => {
  const at = LONGEST.findIndex((name) => file.endsWith(`/${name}`))
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

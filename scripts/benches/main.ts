// scripts/bench: takes measurements, one after the other, and writes docs/performance.md.
import { mkdtempSync, rmSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { removeStaleLabs } from '../lab/lab.ts'
import { killAll } from '../lab/process.ts'
import { alerts } from './alerts.ts'
import { api } from './api.ts'
import { apply } from './apply.ts'
import { change } from './change.ts'
import { check } from './check.ts'
import { compare } from './compare/compare.ts'
import { compile } from './compile.ts'
import { heal } from './heal.ts'
import { history } from './history.ts'
import { thisMachine } from './machine.ts'
import type { Measurement } from './measurement.ts'
import { packets } from './packets.ts'
import { keep, line } from './page.ts'
import { ears } from './watch/ears.ts'
import { watch } from './watch/watch.ts'
import { watchers } from './watch/watchers.ts'

const measurements: readonly Measurement[] = [
  compile,
  apply,
  change,
  heal,
  packets,
  watch,
  ears,
  watchers,
  alerts,
  history,
  api,
  check,
  compare,
]

const names = process.argv.slice(2)
if (names.includes('--list')) {
  for (const { name, title } of measurements) say(`${name.padEnd(10)} ${title}`)
} else {
  const unknown = names.find((name) => !measurements.some((one) => one.name === name))
  if (unknown !== undefined) {
    complain(`bench: there is no measurement ${unknown}; scripts/bench --list names them`)
    process.exitCode = 2
  } else {
    removeStaleLabs()
    // Every way out but SIGKILL then passes `exit`, where labs, programs and folders are put away.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => process.exit(128 + constants.signals[signal]))
    }
    for (const one of measurements) {
      if (names.length === 0 || names.includes(one.name)) await take(one)
    }
  }
}

async function take(measurement: Measurement): Promise<void> {
  const { name, title } = measurement
  const started = performance.now()
  const machine = thisMachine()
  say(title)
  // On a disk, where syncing a file means something.
  const folder = mkdtempSync(join('/var/tmp', 'egress25-bench-'))
  const remove = () => {
    killAll()
    rmSync(folder, { recursive: true, force: true })
  }
  process.once('exit', remove)
  try {
    const progress = (sentence: string) => complain(`  ${name}: ${sentence} …`)
    const figures = await measurement.measure({ folder, progress })
    keep(name, { machine, figures }, measurements)
    for (const figure of figures) say(`  ${line(figure)}`)
    complain(`  ${name}: done in ${((performance.now() - started) / 1000).toFixed(0)} s`)
  } catch (error) {
    complain(`bench: ${name} failed, and the page keeps what it had: ${(error as Error).stack}`)
    process.exitCode = 1
  } finally {
    remove()
    process.off('exit', remove)
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

function complain(text: string): void {
  process.stderr.write(`${text}\n`)
}

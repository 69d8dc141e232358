/**
 * A service's alerts in a process of its own, which others may kill, or which kills itself right before or after its n-th
 * write to the database: node outbox-worker.ts FOLDER ALERTS ROUND INCIDENTS [N]. Says on its standard output what it has
 * left for the channels, once that is committed.
 */
import { writeSync } from 'node:fs'
import { DatabaseSync, StatementSync } from 'node:sqlite'
import { incident, openAlerts } from './alert-support.ts'

const [folder = '', alerts = '[]', round = '0', incidents = '0', at] = process.argv.slice(2)

const { tell, log } = await openAlerts(folder, { alerts: JSON.parse(alerts) })
if (at !== undefined) dieAt(Number(at))
// The parent is told what failed, so that it does not wait in vain.
setInterval(() => {
  for (const line of log.splice(0)) if (!line.endsWith(' sent')) writeSync(2, `${line}\n`)
}, 100)

for (let number = 0; number < Number(incidents); number++) {
  const id = `${round}-${number}`
  for (const event of ['opened', 'updated', 'resolved'] as const) {
    const state = event === 'resolved' ? 'resolved' : 'open'
    const source = `100.64.${round}.${number}`
    tell({ event, time: Date.now(), incident: incident(id, { state, source, lastSeen: Date.now() }) })
    writeSync(1, `${id} ${event}\n`)
    // Delivery goes on between one event and the next.
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Every second time before it is written, else after. */
function dieAt(write: number): void {
  let writes = 0
  const counted = <A extends unknown[], R>(work: (...args: A) => R) =>
    function (this: unknown, ...args: A): R {
      writes++
      if (writes === write && write % 2 === 0) process.kill(process.pid, 'SIGKILL')
      const result = work.apply(this, args)
      if (writes === write) process.kill(process.pid, 'SIGKILL')
      return result
    }
  StatementSync.prototype.run = counted(StatementSync.prototype.run) as typeof StatementSync.prototype.run
  DatabaseSync.prototype.exec = counted(DatabaseSync.prototype.exec)
}

// sudo scripts/demo: egress25 on real traffic. Exit status 0 only when all went as the policy says.
import { mkdtempSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Lab, openLab, removeStaleLabs } from '../lab/lab.ts'
import { makeIdentity, openMailHost } from '../lab/mail.ts'
import { exchanger, laptop, subscriberPrefixes } from './cast.ts'
import { script } from './script.ts'
import { api, type Service, startService } from './service.ts'
import { mark, show } from './show.ts'
import { play, type Row, type Scene, type Step } from './step.ts'
import { coloursFor } from './table.ts'
import { judge } from './verdict.ts'

const keep = process.argv.includes('--keep')
const started = performance.now()
const colours = coloursFor(process.stdout, process.env)

function say(line: string): void {
  const seconds = ((performance.now() - started) / 1_000).toFixed(1)
  process.stdout.write(`${colours.dim(`${seconds.padStart(5)} s`)}  ${line}\n`)
}

async function main(directory: string): Promise<boolean> {
  removeStaleLabs()
  const lab = await openLab({ subscriberPrefixes, endOnSignal: false })
  say('lab: subscribers and relays ── gateway ── internet, IPv4 and IPv6')
  try {
    const scene = await setScene(lab, directory)
    const rows: Row[] = []
    for (const group of script())
      rows.push(...(await Promise.all(group.map((step) => tellAndPlay(step, scene)))))
    say('comparing with what the service counted and reported …')
    const report = await judge(scene.service, rows)
    process.stdout.write(`${show(rows, report, scene.service, colours).join('\n')}\n`)
    const good = report.faults.length === 0 && rows.every((row) => row.faults.length === 0)
    if (!good) process.stdout.write(`\nThe service's last words:\n${scene.service.lastWords()}\n`)
    if (keep) await stay(lab, scene.service)
    return good
  } finally {
    await lab.close()
  }
}

async function setScene(lab: Lab, directory: string): Promise<Scene> {
  const identity = await makeIdentity(directory)
  const services = [
    { service: 'mail exchanger', port: 25 },
    { service: 'submission', port: 587 },
    { service: 'submission over TLS', port: 465 },
  ] as const
  const [internet, relays, client, service] = await Promise.all([
    openMailHost(lab, lab.internet, services, identity),
    openMailHost(lab, lab.relays, services.slice(0, 1), identity),
    lab.client(),
    startService(lab, directory),
  ])
  say('egress25 serves in the gateway; mail servers listen on 25, 465 and 587')
  return { lab, service, client, internet, relays, identity, say }
}

async function tellAndPlay(step: Step, scene: Scene): Promise<Row> {
  const row = await play(step, scene)
  const good = mark(row.faults.length === 0, colours)
  say(`${good} ${row.who} (${row.from}) to port ${row.port} of ${row.to}: ${row.happened}`)
  return row
}

/** Waits for Ctrl-C, having said where to look. */
function stay(lab: Lab, service: Service): Promise<void> {
  const gateway = `sudo ip netns exec ${lab.gateway}`
  const swaks = `sudo ip netns exec ${lab.subscribers} swaks --to you@example.com`
  process.stdout.write(`
The lab stays up. Look around from another terminal:
  ${gateway} curl -s ${api}/v1/incidents
  ${gateway} curl -s ${api}/metrics
  ${gateway} nft list table inet egress25
  sudo tail -f ${service.log}
Send an attempt of your own:
  ${swaks} --server ${exchanger.ipv4} --local-interface ${laptop.ipv4}
  ${swaks} --server ${exchanger.ipv6} --local-interface ${laptop.ipv6}
Ctrl-C ends it and removes everything.
`)
  return new Promise((resolve) => {
    onSignal = () => resolve()
  })
}

let onSignal = (signal: NodeJS.Signals): void => process.exit(128 + constants.signals[signal])
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => onSignal(signal))

const directory = mkdtempSync(join(tmpdir(), 'egress25-demo-'))
process.once('exit', () => rmSync(directory, { recursive: true, force: true }))
try {
  process.exitCode = (await main(directory)) ? 0 : 1
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 1
}

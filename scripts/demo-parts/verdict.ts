// Whether all went as the policy says: what the service itself counted and reported, held against what was sent.
import { setTimeout as pause } from 'node:timers/promises'
import { forgotten, infected } from './cast.ts'
import type { Incident, Service } from './service.ts'
import type { Row } from './step.ts'

const expected = [
  { kind: 'misconfigured-client', machine: forgotten.ipv4, attempts: 6, destinations: 1 },
  { kind: 'spam-bot', machine: infected.ipv4, attempts: 40, destinations: 40 },
  { kind: 'spam-bot', machine: infected.ipv6, attempts: 40, destinations: 40 },
]

export interface Report {
  readonly incidents: readonly Incident[]
  readonly faults: readonly string[]
}

/** Waits up to 10 s until the service has reported all it should, then lists what is missing or too much. */
export async function judge(service: Service, rows: readonly Row[]): Promise<Report> {
  const deadline = Date.now() + 10_000
  for (;;) {
    const report = await compare(service, rows)
    if (report.faults.length === 0 || Date.now() > deadline) return report
    await pause(100)
  }
}

async function compare(service: Service, rows: readonly Row[]): Promise<Report> {
  const [incidents, blocked, status] = await Promise.all([
    service.incidents(),
    service.blockedAttempts(),
    service.status(),
  ])
  const refused = rows.reduce((sum, row) => sum + row.refused, 0)
  const faults = [...incidentFaults(incidents), ...alertFaults(service, incidents)]
  if (blocked !== refused) faults.push(`${refused} attempts were refused, but the metrics count ${blocked}`)
  if (status.in_sync !== true) faults.push(`the service is not in sync: ${JSON.stringify(status)}`)
  return { incidents, faults }
}

function incidentFaults(incidents: readonly Incident[]): string[] {
  const faults: string[] = []
  for (const { kind, machine, attempts, destinations } of expected) {
    const found = incidents.find((incident) => incident.kind === kind && isOf(incident, machine))
    if (!found) faults.push(`no incident ${kind} for ${machine}`)
    else if (found.attempts !== attempts || found.destinations !== destinations) {
      faults.push(
        `the incident ${kind} for ${machine} counts ${found.attempts} attempts at ${found.destinations} ` +
          `destinations, not ${attempts} at ${destinations}`,
      )
    }
  }
  for (const incident of incidents) {
    if (!expected.some(({ kind, machine }) => incident.kind === kind && isOf(incident, machine))) {
      faults.push(`nobody expected the incident ${incident.kind} for ${incident.source}`)
    }
  }
  return faults
}

function alertFaults({ deliveries }: Service, incidents: readonly Incident[]): string[] {
  const bad = deliveries.flatMap(({ fault }) =>
    fault === null ? [] : [`a webhook was posted whose ${fault}`],
  )
  const missing = incidents
    .filter(({ id }) => !deliveries.some(({ fault, body }) => fault === null && body.includes(id)))
    .map(({ kind, source }) => `the webhook never heard of the incident ${kind} for ${source}`)
  return [...bad, ...missing]
}

/** An IPv6 machine is a prefix, of which `machine` is an address. */
function isOf({ source }: Incident, machine: string): boolean {
  return source === machine || source === `${machine.split('::')[0]}::/64`
}

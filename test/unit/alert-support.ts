/** What tests of alerts need: incidents, a channel's configuration, a service's alerts over a real database, receivers. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Alerts } from '../../src/alerts/alerts.ts'
import type { AlertsLog } from '../../src/alerts/log.ts'
import type { Silence } from '../../src/alerts/planning/silence.ts'
import { prepareAlerts } from '../../src/alerts/prepare.ts'
import { parseConfig } from '../../src/config/config.ts'
import type { Incident, IncidentEvent } from '../../src/detect/incident.ts'
import { inTransaction, openDatabase, openRelaxed } from '../../src/store/database.ts'
import { IncidentStore } from '../../src/store/incidents.ts'
import type { Subscriber } from '../../src/subscribers/subscriber.ts'
import { freePort } from './support.ts'
import { bodyFault } from './webhook-schema.ts'

export const NOW = Date.parse('2026-06-01T12:00:00Z')

export function incident(id: string, more: Partial<Incident> = {}): Incident {
  return {
    id,
    kind: 'spam-bot',
    confidence: 'likely',
    state: 'open',
    source: '100.64.1.2',
    user: null,
    process: null,
    policy: 'residential',
    verdict: 'block',
    acknowledged: false,
    firstSeen: NOW - 60_000,
    lastSeen: NOW,
    attempts: 40,
    lost: 0,
    destinations: 40,
    topDestinations: [{ destination: '203.0.113.1', attempts: 1 }],
    evidence: {
      rule: 'fan-out',
      window: 300_000,
      attempts: 40,
      connections: 40,
      destinations: 40,
      sources: 1,
      limits: { attempts: 30 },
      usual: null,
    },
    interfaces: [],
    hardwareAddresses: [],
    reopened: 0,
    counter: null,
    summary: 'It tried.',
    ...more,
  }
}

export interface OpenAlerts {
  readonly alerts: Alerts
  readonly log: string[]
  /** Saves and leaves, as the service does: in one transaction. */
  tell(...events: IncidentEvent[]): void
  close(): Promise<void>
}

interface AlertsAround {
  readonly silences?: readonly Silence[]
  readonly now?: () => number
  /** Who is behind an incident, by its id; default: what the database says. */
  readonly subscriberOf?: (id: string) => Subscriber | null
}

/** Alerts as the service has them, over the database in the folder. */
export async function openAlerts(
  folder: string,
  config: Readonly<Record<string, unknown>>,
  { silences = [], now = Date.now, subscriberOf }: AlertsAround = {},
): Promise<OpenAlerts> {
  const path = join(folder, 'egress25.db')
  const database = openDatabase(path)
  const relaxed = openRelaxed(path)
  const incidents = new IncidentStore(database)
  const log: string[] = []
  const prepared = await prepareAlerts(parseConfig('c.yaml', JSON.stringify({ gateway: 'gw1', ...config })))
  const alerts = new Alerts({
    ...prepared,
    silences: [...prepared.silences, ...silences],
    gateway: 'gw1',
    database,
    relaxed,
    incidents: {
      earlier: (incident, since) => incidents.earlier(incident, since),
      subscriberOf: subscriberOf ?? ((id) => incidents.subscriberOf(id)),
    },
    networkOf: () => '100.64.0.0/10',
    attempts: () => [],
    now,
    random: Math.random,
    log: logTo(log),
  })
  alerts.start()
  return {
    alerts,
    log,
    tell(...events) {
      inTransaction(database, () => {
        for (const event of events) {
          incidents.save(event.incident)
          alerts.leaveIncident(event)
        }
      })
      alerts.wake()
    },
    async close() {
      await alerts.stop()
      relaxed.close()
      database.close()
    },
  }
}

function logTo(log: string[]): AlertsLog {
  return {
    sent: (channel) => log.push(`${channel} sent`),
    failed: (channel, { message }) => log.push(`${channel} failed: ${message}`),
    faulty: (channel, { message }) => log.push(`${channel} faulty: ${message}`),
    dead: (channel, _, { message }) => log.push(`${channel} dead: ${message}`),
    dropped: (channel, news) => log.push(`${channel} dropped ${news}`),
    unwritable: ({ message }) => log.push(`unwritable: ${message}`),
  }
}

export interface Receiver {
  readonly url: string
  readonly port: number
  readonly received: { readonly body: string; readonly headers: IncomingMessage['headers'] }[]
  close(): Promise<void>
}

/** Answers as it is told, and keeps what came, which must be as the published schema says. */
export async function receiver(
  test: Test,
  answer: (request: IncomingMessage, response: ServerResponse, nth: number) => void,
  givenPort?: number,
): Promise<Receiver> {
  // One that it can have again after it was away.
  const port = givenPort ?? (await freePort())
  const received: Receiver['received'] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      const fault = bodyFault(body)
      if (fault !== null) test.fail(fault)
      received.push({ body, headers: request.headers })
      answer(request, response, received.length)
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  test.teardown(close)
  return { url: `http://127.0.0.1:${port}/hook`, port, received, close }
}

/** Waits for a condition; the machine may be slow. */
export async function until(what: string, isSo: () => boolean, timeout = 60_000): Promise<void> {
  for (const deadline = performance.now() + timeout; !isSo(); ) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

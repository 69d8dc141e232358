// How long after the packet that makes it an incident a webhook's receiver knows of it, and what of that is ours.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Incident } from '../../src/detect/incident.ts'
import { inTransaction, openDatabase } from '../../src/store/database.ts'
import { IncidentStore } from '../../src/store/incidents.ts'
import { type Http, openHttp } from '../lab/http.ts'
import { type Lab, openLab } from '../lab/lab.ts'
import type { Probe } from '../lab/probe.ts'
import { egress25 } from './egress25.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { quantile } from './rounds.ts'

const OPEN = [10, 10_000]
const ROUNDS = 300
/** The default of a policy for a misconfigured client: the last of them crosses the threshold. */
const ATTEMPTS = 5
const API = 'http://127.0.0.1:7025'
const HOOK = 7026
const GROUP = 26
const PATIENCE_MS = 60_000
/** From DESIGN: to the arrival, and the part of it that is ours. */
const GOAL = { all: 1_000, ours: 100 }

const POLICY = 'kind: policy\nname: residential\nnetworks: [100.64.0.0/10]\n'

/** Tells the bench of the same packets, right before our own rules see them. */
const REFERENCE = `table inet reference {
  chain forwarded {
    type filter hook forward priority -10
    tcp dport 25 log group ${GROUP} snaplen 128 queue-threshold 1
  }
}
`

export const alerts: Measurement = {
  name: 'alerts',
  title: 'From the packet to the alert',
  about:
    `A machine makes ${ATTEMPTS} attempts, and the last one of them makes it an incident: from the moment at which that ` +
    'packet is sent until a receiver on the same machine has the whole signed webhook, over a queue that is synced to a ' +
    'disk. A bare tcpdump hears of the same packet by a rule of its own; what comes after it had it is ours. One machine ' +
    'after the other, beside so many others whose incidents are open.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const open of OPEN) {
    progress(`${ROUNDS} machines beside ${open.toLocaleString('en')} open incidents`)
    figures.push(...(await beside(open, join(folder, String(open)))))
  }
  return figures
}

async function beside(open: number, folder: string): Promise<Figure[]> {
  const lab = await openLab()
  try {
    const http = await startService(lab, folder, open)
    const arrivals = new Map<string, (at: number) => void>()
    await http.receive(HOOK, 'sesame', ({ at, fault, body }) => {
      if (fault !== null) throw new Error(`a webhook that is not ours: ${fault}`)
      const { event, incident } = JSON.parse(body) as { event: string; incident?: { source: string } }
      if (event === 'opened') arrivals.get(incident?.source ?? '')?.(at)
    })
    const heard = await listen(lab)
    const client = await lab.client()
    const rounds: { all: number; ours: number }[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const source = `100.64.${1 + (round >> 8)}.${round & 255}`
      const arrived = new Promise<number>((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`no alert of ${source}`)), PATIENCE_MS)
        arrivals.set(source, (at) => {
          clearTimeout(late)
          resolve(at)
        })
      })
      const sent = await crossThreshold(client, source, heard)
      const at = await arrived
      rounds.push({ all: at - sent, ours: at - heard.last })
    }
    return figuresOf(rounds, open)
  } finally {
    await lab.close()
  }
}

/** With so many incidents open from before its start. */
async function startService(lab: Lab, folder: string, open: number): Promise<Http> {
  const [directory, state] = [join(folder, 'policies'), join(folder, 'state')]
  for (const path of [directory, state]) mkdirSync(path, { recursive: true })
  writeFileSync(join(directory, 'policy.yaml'), POLICY)
  writeFileSync(join(folder, 'secret'), 'sesame\n')
  const channel = {
    ...{ name: 'hook', type: 'webhook', limit: 'none' },
    ...{ url: `http://127.0.0.1:${HOOK}/`, secret_file: join(folder, 'secret') },
  }
  const config = join(folder, 'egress25.yaml')
  const settings = { policies: { directory }, state: { directory: state }, alerts: [channel] }
  writeFileSync(config, JSON.stringify(settings))
  openBefore(join(state, 'egress25.db'), open)
  const { code, stderr } = await lab.exec(lab.gateway, ['nft', '-f', '-'], { input: REFERENCE })
  if (code !== 0) throw new Error(`nft: ${stderr.trim()}`)
  lab.spawn(lab.gateway, [egress25, '--config', config, 'serve'], { stdio: 'ignore' })
  const http = openHttp(lab, lab.gateway)
  await http.untilOk(`${API}/readyz`, PATIENCE_MS)
  const listed = JSON.parse((await http.ask('GET', `${API}/v1/incidents?limit=1&state=open`)).text)
  if (listed.items.length !== 1) throw new Error('no incident is open')
  return http
}

function openBefore(path: string, count: number): void {
  const database = openDatabase(path)
  const store = new IncidentStore(database)
  inTransaction(database, () => {
    for (let i = 0; i < count; i++) store.save(incident(i))
  })
  database.close()
}

function incident(number: number): Incident {
  const now = Date.now()
  return {
    ...{ id: `before-${number}`, kind: 'spam-bot', confidence: 'likely', state: 'open' },
    ...{ source: `100.80.${number >> 8}.${number & 255}`, policy: 'residential', verdict: 'block' },
    ...{ user: null, process: null },
    ...{
      acknowledged: false,
      firstSeen: now - 60_000,
      lastSeen: now,
      attempts: 40,
      lost: 0,
      destinations: 40,
    },
    topDestinations: [{ destination: '203.0.113.1', attempts: 1 }],
    evidence: {
      ...{ rule: 'fan-out', window: 300_000, attempts: 40, connections: 40, destinations: 40, sources: 1 },
      ...{ limits: { attempts: 30 }, usual: null },
    },
    ...{
      interfaces: [],
      hardwareAddresses: [],
      counter: null,
      reopened: 0,
      summary: 'It tried 40 mail servers.',
    },
  }
}

interface Heard {
  /** When it was told of a packet last, in milliseconds since the epoch, and how many bytes it was told in all. */
  last: number
  bytes: number
}

/** As the service listens, and nothing else. */
async function listen(lab: Lab): Promise<Heard> {
  const heard: Heard = { last: 0, bytes: 0 }
  const argv = ['tcpdump', '-Z', 'root', '-i', `nflog:${GROUP}`, '-n', '-U', '-w', '-']
  const child = lab.spawn(lab.gateway, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout?.on('data', (chunk: Buffer) => {
    heard.last = now()
    heard.bytes += chunk.length
  })
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (text: Buffer) => text.includes('listening on') && resolve())
    child.once('close', () => reject(new Error('tcpdump ended')))
  })
  return heard
}

/** Answers when the packet was sent that makes the machine an incident. */
async function crossThreshold(client: Probe, from: string, heard: Heard): Promise<number> {
  const attempt = { from, to: '203.0.113.9', port: 25 }
  const attempts = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const before = heard.bytes
      const outcome = await client.connect(attempt)
      if (outcome !== 'reset') throw new Error(`${from}: ${outcome}`)
      for (const deadline = now() + PATIENCE_MS; heard.bytes === before; ) {
        if (now() > deadline) throw new Error('tcpdump was told of nothing')
        await new Promise(setImmediate)
      }
    }
  }
  await attempts(ATTEMPTS - 1)
  const sent = now()
  await attempts(1)
  return sent
}

/** As the receiver's clock, finer. */
function now(): number {
  return performance.timeOrigin + performance.now()
}

function figuresOf(rounds: readonly { all: number; ours: number }[], open: number): Figure[] {
  return (['all', 'ours'] as const).map((part) => {
    const times = rounds.map((round) => Math.max(0, round[part]))
    const what = part === 'all' ? 'from the packet to the receiver' : 'of it ours'
    return {
      what: `${what}, 99th percentile, with ${open.toLocaleString('en')} incidents open`,
      command: 'egress25 --config FILE serve',
      reference: part === 'all' ? null : 'a bare tcpdump that hears of the same packet',
      result: quantile(times, 0.99),
      spread: null,
      unit: 'ms',
      detail: `median ${quantile(times, 0.5).toFixed(1)} ms, longest ${Math.max(...times).toFixed(1)} ms`,
      rounds: times.length,
      goal: GOAL[part],
    }
  })
}

// The service under demonstration: the real one, in the lab's gateway, with the example policies.
import { randomBytes } from 'node:crypto'
import { cpSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Delivery, type Http, openHttp } from '../lab/http.ts'
import type { Lab } from '../lab/lab.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const webhookPort = 7026

/** Where the API is, inside the gateway's namespace. */
export const api = 'http://127.0.0.1:7025'

export interface Explanation {
  readonly verdict: string
  readonly reason: string
  readonly document: { readonly kind: string; readonly name: string } | null
}

export interface Incident {
  readonly id: string
  readonly kind: string
  readonly confidence: string
  readonly state: string
  readonly source: string
  readonly first_seen: string
  readonly last_seen: string
  readonly attempts: number
  readonly destinations: number
  readonly summary: string
}

export interface Service {
  readonly log: string
  readonly config: string
  /** What has arrived at the webhook so far. */
  readonly deliveries: readonly Delivery[]
  explain(source: string, destination: string): Promise<Explanation>
  incidents(): Promise<Incident[]>
  status(): Promise<{ readonly in_sync?: boolean }>
  /** All attempts blocked so far, as the metrics count them. */
  blockedAttempts(): Promise<number>
  /** Creates an exemption that ends at `expires`, milliseconds since the epoch, in whole seconds. */
  exempt(name: string, sources: readonly string[], expires: number): Promise<void>
  /** The last lines it wrote, for when something went wrong. */
  lastWords(): string
}

/** Starts the service in the gateway and waits until it is healthy. Everything it writes goes to `directory`. */
export async function startService(lab: Lab, directory: string): Promise<Service> {
  const log = join(directory, 'egress25.log')
  const config = writeConfiguration(directory)
  const http = openHttp(lab, lab.gateway)
  const deliveries: Delivery[] = []
  await http.receive(webhookPort, readFileSync(secretFile(directory), 'utf8'), (delivery) => {
    deliveries.push(delivery)
  })
  const lastWords = () => readFileSync(log, 'utf8').trim().split('\n').slice(-20).join('\n')
  const output = openSync(log, 'a')
  const command = [join(repository, 'scripts/egress25'), '--config', config, 'serve']
  const child = lab.spawn(lab.gateway, command, { stdio: ['ignore', output, output] })
  const died = new Promise<never>((_, reject) => {
    child.once('exit', (code, signal) => {
      reject(new Error(`egress25 serve ended (${signal ?? `exit status ${code}`}):\n${lastWords()}`))
    })
  })
  died.catch(() => {}) // when it ends later, the step that needs it says so
  await Promise.race([died, http.untilOk(`${api}/healthz`, 15_000)])
  return { ...client(http), log, config, deliveries, lastWords }
}

function writeConfiguration(directory: string): string {
  const policies = join(directory, 'policies')
  const state = join(directory, 'state')
  const config = join(directory, 'egress25.yaml')
  cpSync(join(repository, 'policies'), policies, { recursive: true })
  mkdirSync(state)
  writeFileSync(secretFile(directory), randomBytes(32).toString('hex'), { mode: 0o600 })
  // A path in double quotes is YAML, whatever is in it.
  writeFileSync(
    config,
    `gateway: demo
policies: { directory: ${JSON.stringify(policies)} }
firewall: { hooks: [forward, output] }
api:      { listen: ["127.0.0.1:7025"] }
state:    { directory: ${JSON.stringify(state)} }
alerts:
  - name: demo
    type: webhook
    url: http://127.0.0.1:${webhookPort}/
    secret_file: ${JSON.stringify(secretFile(directory))}
`,
  )
  return config
}

function secretFile(directory: string): string {
  return join(directory, 'webhook.secret')
}

function client(http: Http): Omit<Service, 'log' | 'config' | 'deliveries' | 'lastWords'> {
  const get = async (path: string) => {
    const { status, text } = await http.ask('GET', `${api}${path}`)
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${text}`)
    return text
  }
  return {
    async explain(source, destination) {
      const query = new URLSearchParams({ source, destination })
      return JSON.parse(await get(`/v1/explain?${query}`))
    },
    incidents: async () => JSON.parse(await get('/v1/incidents')).items,
    status: async () => JSON.parse(await get('/v1/status')),
    async blockedAttempts() {
      const samples = (await get('/metrics')).matchAll(/^egress25_attempts_total\{(.*)\} (\d+)$/gm)
      return [...samples]
        .filter(([, labels]) => labels?.includes('verdict="block"'))
        .reduce((sum, [, , value]) => sum + Number(value), 0)
    },
    async exempt(name, sources, expires) {
      const body = {
        sources,
        expires: new Date(expires).toISOString(),
        reason: 'A tenant moves a mail server and needs a few seconds.',
        owner: 'demo@example.net',
        ticket: 'DEMO-25',
      }
      const { status, text } = await http.ask('PUT', `${api}/v1/exemptions/${name}`, {
        body,
        headers: { 'if-none-match': '*' },
      })
      if (status !== 200 && status !== 201) throw new Error(`PUT /v1/exemptions/${name}: ${status} ${text}`)
    },
  }
}

// egress25 itself, the whole service.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Http, openHttp } from '../../lab/http.ts'
import type { Lab } from '../../lab/lab.ts'
import { egress25 } from '../egress25.ts'
import { FORGED, REAL } from './flood.ts'
import { childOf } from './usage.ts'
import { LIMITS, onLines, pidOf, until, type Watcher, type Watching } from './watcher.ts'

const API = 'http://127.0.0.1:7025'

export const POLICY = `kind: policy
name: residential
networks: [${FORGED}, ${REAL}]
detection:
  spam_bot: { attempts: ${LIMITS.attempts}, destinations: 10, window: ${LIMITS.seconds}s }
`

export interface Service extends Watching {
  status(): Promise<Status>
  incidents(): Promise<{ kind: string; source: string; attempts: number; lost: number }[]>
}

export interface Status {
  readonly attempts: { readonly total: number }
  readonly events: { readonly received: number; readonly lost: number }
}

export const service: Watcher = { name: 'egress25', start: startService }

export async function startService(lab: Lab, folder: string): Promise<Service> {
  const directory = join(folder, 'policies')
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'policy.yaml'), POLICY)
  const config = join(folder, 'egress25.yaml')
  writeFileSync(
    config,
    JSON.stringify({ policies: { directory }, state: { directory: join(folder, 'state') } }),
  )
  const child = lab.spawn(lab.gateway, [egress25, '--config', config, 'serve'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const found = new Map<string, number>()
  onLines(child, (line) => {
    const source = /"event":"opened","incident":\{[^}]*?"source":"([^"]+)"/.exec(line)?.[1]
    if (source !== undefined && !found.has(source)) found.set(source, performance.now())
  })
  const http = openHttp(lab, lab.gateway)
  await http.untilOk(`${API}/readyz`, 60_000)
  const status = () => ask<Status>(http, '/v1/status')
  const pid = pidOf(child)
  const tcpdump = await until('tcpdump', () => childOf(pid, 'tcpdump'))
  return {
    processes: { 'Node.js': pid, tcpdump },
    found,
    status,
    told: async () => (await status()).events.received,
    incidents: async () =>
      (
        await ask<{ items: Awaited<ReturnType<Service['incidents']>> }>(
          http,
          '/v1/incidents?state=open&limit=1000',
        )
      ).items,
  }
}

async function ask<T>(http: Http, path: string): Promise<T> {
  const { status, text } = await http.ask('GET', API + path)
  if (status !== 200) throw new Error(`${path}: ${status} ${text}`)
  return JSON.parse(text)
}

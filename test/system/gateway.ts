/** A gateway between real networks, with the real service in it, for tests to start, ask and kill. */
import type { ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { type Answer, type Delivery, type Http, openHttp } from '../../scripts/lab/http.ts'
import { type Lab, openLab } from '../../scripts/lab/lab.ts'
import type { Probe } from '../../scripts/lab/probe.ts'
import { bodyFault } from '../unit/webhook-schema.ts'

export const ROOT = new URL('../..', import.meta.url).pathname
export const COMMAND = join(ROOT, 'scripts/egress25')
export const API = 'http://127.0.0.1:7025'
const HOOK = 7026

/** What a gateway enforces unless a test has policies of its own. */
export const POLICIES = {
  'policy.yaml': `# The pools.
kind: policy
name: residential
networks: [100.64.0.0/10, "2001:db8:100::/40"]
detection:
  resolve_after: 7d
---
kind: relay
name: mx-out
addresses: [192.0.2.25, "2001:db8::25"]
`,
  'tests.yaml': `kind: test
name: mail-flows
expect:
  - { from: 192.0.2.25, to: 203.0.113.9, verdict: allow }
  - { from: 100.64.1.2, to: 192.0.2.25, verdict: allow }
`,
}

export interface Gateway {
  readonly lab: Lab
  readonly http: Http
  readonly client: Probe
  readonly directory: string
  readonly config: string
  readonly deliveries: Delivery[]
  /** Starts the service; resolves when it answers 200 at the path, by default `/readyz`. */
  start(answersAt?: string): Promise<ChildProcess>
  /** Ends it by the signal; its exit status, or the signal that killed it. */
  stop(service: ChildProcess, signal?: NodeJS.Signals): Promise<number | string | null>
  egress25(...args: string[]): ReturnType<Lab['exec']>
  get(path: string): Promise<Record<string, unknown>>
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  nft(...args: string[]): Promise<string>
  log(): Promise<string>
}

/** Milliseconds after which something does not happen any more; a busy machine may take long. */
export const PATIENCE = 60_000

export async function until<T>(
  what: string,
  ask: () => Promise<T | null | undefined | false>,
  timeout = PATIENCE,
): Promise<T> {
  for (const deadline = performance.now() + timeout; ; ) {
    const found = await ask()
    if (found) return found
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

/** With another environment, the service and all programs in the gateway find other programs in their PATH. */
export async function gateway(
  test: Test,
  policies: Record<string, string> = POLICIES,
  env: NodeJS.ProcessEnv = process.env,
  /** What echoes in the internet; a test that has mail servers of its own there leaves port 25 to them. */
  echoes: readonly number[] = [25, 465, 587],
): Promise<Gateway> {
  // Torn down the other way round: nothing is written any more when the folder goes.
  const directory = await mkdtemp(join(tmpdir(), 'egress25-service-'))
  test.teardown(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const lab = await openLab()
  test.teardown(() => lab.close())
  for (const [path, text] of Object.entries(policies)) {
    await mkdir(dirname(join(directory, 'policies', path)), { recursive: true })
    await writeFile(join(directory, 'policies', path), text)
  }
  await writeFile(join(directory, 'secret'), 'sesame\n')
  const config = join(directory, 'egress25.yaml')
  await writeFile(
    config,
    JSON.stringify({
      gateway: 'gw-test',
      policies: { directory: join(directory, 'policies') },
      api: { listen: ['127.0.0.1:7025', `unix:${directory}/api.sock`] },
      state: { directory: join(directory, 'state') },
      alerts: [
        {
          name: 'hook',
          type: 'webhook',
          url: `http://127.0.0.1:${HOOK}/`,
          secret_file: join(directory, 'secret'),
        },
      ],
    }),
  )
  const http = openHttp(lab, lab.gateway)
  const deliveries: Delivery[] = []
  await http.receive(HOOK, 'sesame', (delivery) => {
    const fault = bodyFault(delivery.body)
    if (fault !== null) test.fail(fault)
    deliveries.push(delivery)
  })
  const internet = await lab.probe(lab.internet)
  await internet.listen(echoes, { echo: true })
  const relays = await lab.probe(lab.relays)
  await relays.listen([25], { echo: true })
  const logFile = join(directory, 'log')
  const self: Gateway = {
    lab,
    http,
    client: await lab.client(),
    directory,
    config,
    deliveries,
    async start(answersAt = '/readyz') {
      const { openSync, closeSync } = await import('node:fs')
      const output = openSync(logFile, 'a')
      const service = lab.spawn(lab.gateway, [COMMAND, '-c', config, 'serve'], {
        stdio: ['ignore', output, output],
        env,
      })
      closeSync(output)
      await http.untilOk(`${API}${answersAt}`, PATIENCE)
      return service
    },
    stop(service, signal = 'SIGTERM') {
      const { exitCode, signalCode } = service
      if (exitCode !== null || signalCode !== null) return Promise.resolve(exitCode ?? signalCode)
      const ended = new Promise<number | string | null>((resolve) =>
        service.once('exit', (code, by) => resolve(code ?? by)),
      )
      service.kill(signal)
      return ended
    },
    egress25: (...args) => lab.exec(lab.gateway, [COMMAND, '-c', config, ...args], { env }),
    async get(path) {
      const { status, text } = await http.ask('GET', API + path)
      if (status !== 200) throw new Error(`${path}: ${status} ${text}`)
      return JSON.parse(text)
    },
    ask: (method, path, body, headers = {}) =>
      http.ask(method, API + path, { headers, ...(body === undefined ? {} : { body }) }),
    nft: async (...args) => (await lab.exec(lab.gateway, ['nft', ...args], { env })).stdout,
    log: () => readFile(logFile, 'utf8'),
  }
  return self
}

// How fast the API answers, and whether it keeps its word to 200 clients that change things at the same time.
import { mkdirSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openHttp } from '../lab/http.ts'
import { type Lab, openLab } from '../lab/lab.ts'
import { egress25 } from './egress25.ts'
import type { Bench, Figure, Measurement } from './measurement.ts'
import { alternate, median, ratios, summary } from './rounds.ts'

const ROUNDS = 15
/** Seconds before the first round: a service that has run for a while is compiled, and so should both be. */
const WARM_UP = 4
const CLIENTS = 200
const SECONDS = 60
const MACHINES = 20
const API = 'http://127.0.0.1:7025'
const BARE_PORT = 7027
/** As many as answer 0.7 times the requests a second. */
const GOAL = 1 / 0.7

const POLICY = 'kind: policy\nname: residential\nnetworks: [100.64.0.0/10]\n'

export const api: Measurement = {
  name: 'api',
  title: 'The API',
  about:
    `Requests of wrk over 16 connections, for a second each and after some seconds to warm up, against a bare Fastify route that answers the same bytes; ` +
    `the figure is the time for one request. Then ${CLIENTS} clients create and remove exemptions for ${SECONDS} seconds, and ` +
    'what was acknowledged is held against the listing, the set in the kernel, and git: its latest revision, and one ' +
    'commit for each change.',
  measure,
}

async function measure({ folder, progress }: Bench): Promise<Figure[]> {
  const config = join(folder, 'egress25.yaml')
  const directory = join(folder, 'policies')
  const state = join(folder, 'state')
  mkdirSync(directory)
  writeFileSync(join(directory, 'policy.yaml'), POLICY)
  writeFileSync(
    config,
    `policies: { directory: ${directory}, history: init }\nstate: { directory: ${state} }\n`,
  )
  const lab = await openLab()
  try {
    const http = openHttp(lab, lab.gateway)
    lab.spawn(lab.gateway, [egress25, '--config', config, 'serve'], { stdio: 'ignore' })
    await http.untilOk(`${API}/readyz`, 120_000)
    progress('making incidents')
    await makeIncidents(lab)
    const figures: Figure[] = []
    for (const path of ['/v1/status', `/v1/incidents?limit=${MACHINES}`]) {
      progress(`asking for ${path}`)
      figures.push(await against(lab, http, folder, path))
    }
    progress(`${CLIENTS} clients for ${SECONDS} s`)
    return [...figures, ...(await changes(lab, join(state, 'api.sock'), directory))]
  } finally {
    await lab.close()
  }
}

async function makeIncidents(lab: Lab): Promise<void> {
  const client = await lab.client()
  const attempts = Array.from({ length: MACHINES }, (_, machine) =>
    Array.from({ length: 6 }, () => ({ from: `100.64.1.${machine + 2}`, to: '203.0.113.9', port: 25 })),
  )
  await client.connectAll(attempts.flat())
}

async function against(
  lab: Lab,
  http: ReturnType<typeof openHttp>,
  folder: string,
  path: string,
): Promise<Figure> {
  const { text } = await http.ask('GET', `${API}${path}`)
  const body = join(folder, 'body.json')
  writeFileSync(body, text)
  const script = fileURLToPath(new URL('bare-route.ts', import.meta.url))
  const bare = lab.spawn(lab.gateway, [process.execPath, script, String(BARE_PORT), body], {
    stdio: 'ignore',
  })
  await http.untilOk(`http://127.0.0.1:${BARE_PORT}/`, 30_000)
  const [url, bareUrl] = [`${API}${path}`, `http://127.0.0.1:${BARE_PORT}/`]
  for (const one of [url, bareUrl]) await secondsForOne(lab, one, WARM_UP)
  const found = await alternate(ROUNDS, {
    ours: () => secondsForOne(lab, url),
    bare: () => secondsForOne(lab, bareUrl),
  })
  bare.kill()
  const perSecond = (values: readonly number[]) => Math.round(1 / median(values)).toLocaleString('en')
  return {
    what: `GET ${path}`,
    command: `wrk -c 16 ${API}${path}`,
    reference: 'a bare Fastify route that answers the same bytes',
    ...summary(ratios(found.ours, found.bare)),
    unit: '×',
    detail: `${perSecond(found.ours)} requests/s against ${perSecond(found.bare)}, of ${text.length.toLocaleString('en')} bytes`,
    goal: Number(GOAL.toFixed(2)),
  }
}

async function secondsForOne(lab: Lab, url: string, seconds = 1): Promise<number> {
  const { code, stdout, stderr } = await lab.exec(lab.gateway, ['wrk', '-t1', '-c16', `-d${seconds}s`, url], {
    timeoutMs: 30_000,
  })
  const perSecond = Number(/^Requests\/sec:\s+([\d.]+)$/m.exec(stdout)?.[1])
  if (code !== 0 || !(perSecond > 0) || /Non-2xx/.test(stdout)) throw new Error(stdout + stderr)
  return 1 / perSecond
}

async function changes(lab: Lab, socketPath: string, directory: string): Promise<Figure[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS })
  const ask = (method: string, path: string, body?: unknown): Promise<{ status: number; text: string }> =>
    new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json', 'if-none-match': '*' }
      const outgoing = request({ socketPath, agent, method, path, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk) => {
          text += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      })
      outgoing.on('error', reject)
      outgoing.end(body === undefined ? undefined : JSON.stringify(body))
    })
  const expected = new Map<string, string>()
  const times: number[] = []
  const subjects: string[] = []
  const deadline = performance.now() + SECONDS * 1_000
  const change = async (method: string, name: string, body?: unknown) => {
    const started = performance.now()
    const { status, text } = await ask(method, `/v1/exemptions/${name}`, body)
    if (status >= 300) throw new Error(`${method} ${name}: ${status} ${text}`)
    times.push(performance.now() - started)
    subjects.push(`exemption ${name}: ${method === 'PUT' ? 'added' : 'removed'}`)
  }
  await Promise.all(
    Array.from({ length: CLIENTS }, async (_, client) => {
      for (let round = 0; performance.now() < deadline; round++) {
        const [name, address] = [
          `client-${client}-${round}`,
          `100.${66 + (round >> 8)}.${round & 255}.${client}`,
        ]
        await change('PUT', name, { sources: [address] })
        expected.set(name, address)
        if (round % 2 === 0) continue
        await change('DELETE', name)
        expected.delete(name)
      }
    }),
  )
  const listed: string[] = []
  for (let next: string | null = ''; next !== null; ) {
    const { text } = await ask('GET', `/v1/exemptions?limit=1000${next === '' ? '' : `&cursor=${next}`}`)
    const page = JSON.parse(text) as { items: { name: string }[]; next: string | null }
    listed.push(...page.items.map(({ name }) => name))
    next = page.next
  }
  const { stdout } = await lab.exec(lab.gateway, ['nft', 'list', 'set', 'inet', 'egress25', 'exempt4-32'], {})
  const inKernel = [...stdout.matchAll(/\b100\.\d+\.\d+\.\d+\b/g)].map(([address]) => address)
  const waiting = async () => {
    const { text } = await ask('GET', '/v1/status')
    return (JSON.parse(text) as { repository: { waiting: number } }).repository.waiting
  }
  // A commit comes from a queue behind the answer.
  while ((await waiting()) > 0) await new Promise((resolve) => setTimeout(resolve, 100))
  agent.destroy()
  const inGit = await gitLines(lab, directory, ['ls-tree', '-r', '--name-only', 'HEAD', 'exemptions/'])
  const committed = await gitLines(lab, directory, ['log', '--format=%s', '--grep=^exemption '])
  const differing = (found: readonly string[], wanted: readonly string[]) => {
    const [there, right] = [new Set(found), new Set(wanted)]
    const twice = found.length - there.size
    const missing = wanted.filter((one) => !there.has(one)).length
    return twice + missing + [...there].filter((one) => !right.has(one)).length
  }
  const names = [...expected.keys()]
  const wrong =
    differing(listed, names) +
    differing(inKernel, [...expected.values()]) +
    differing(
      inGit,
      names.map((name) => `exemptions/${name}.yaml`),
    ) +
    differing(committed, subjects)
  return [
    {
      what: `changes of ${CLIENTS} clients in ${SECONDS} s that are lost, or there twice, in the listing, the kernel or git`,
      command: 'egress25 --config FILE serve',
      reference: 'all that were acknowledged',
      result: (wrong / times.length) * 100,
      spread: null,
      unit: '%',
      detail: `${times.length.toLocaleString('en')} changes, ${(times.length / SECONDS).toFixed(0)} a second, half of them within ${median(times).toFixed(0)} ms`,
      rounds: 1,
      goal: 0,
    },
  ]
}

async function gitLines(lab: Lab, directory: string, argv: readonly string[]): Promise<string[]> {
  const { code, stdout, stderr } = await lab.exec(lab.gateway, ['git', '-C', directory, ...argv], {
    timeoutMs: 60_000,
  })
  if (code !== 0) throw new Error(stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

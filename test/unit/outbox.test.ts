/** `kill -9` between any two steps of delivery: nothing is lost, and nothing there twice by its key. */
import { type ChildProcess, spawn } from 'node:child_process'
import type { ServerResponse } from 'node:http'
import t from 'tap'
import type { Body } from '../../src/alerts/message.ts'
import { receiver, until } from './alert-support.ts'
import { directory } from './support.ts'

/** How often it is killed; more with EGRESS25_KILLS. */
const KILLS = Number(process.env['EGRESS25_KILLS'] ?? 8)
const INCIDENTS = 4
/** An incident's events alone are more writes than that. */
const WRITES = 60

const SCRIPT = new URL('outbox-worker.ts', import.meta.url).pathname

t.test('killed between any two steps', async (t) => {
  const folder = await directory(t)
  let onRequest: (response: ServerResponse) => void = (response) => response.writeHead(204).end()
  const singly = await receiver(t, (_, response) => onRequest(response))
  const together = await receiver(t, (_, response) => response.writeHead(204).end())
  const alerts = [
    { name: 'singly', type: 'webhook', url: singly.url, limit: 'none' },
    {
      ...{ name: 'together', type: 'webhook', url: together.url, limit: '20/second' },
      group: { by: ['kind'], first: 1, wait: '1s' },
    },
  ]
  let said = ''
  const left = () => said.split('\n').slice(0, -1)
  const run = (round: number, incidents: number, dieAt: number | null) => {
    const argv = [folder, JSON.stringify(alerts), String(round), String(incidents)]
    const child = spawn(process.execPath, [SCRIPT, ...argv, ...(dieAt === null ? [] : [String(dieAt)])], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    child.stdout.on('data', (text) => {
      said += text
    })
    return child
  }
  const ended = (child: ChildProcess) =>
    new Promise<string | null>((resolve) => child.once('close', (_, signal) => resolve(signal)))

  for (let round = 0; round < KILLS; round++) {
    const how = ['write', 'write', 'unanswered', 'answered'][round % 4]
    const write = how === 'write' ? 1 + Math.floor(Math.random() * WRITES) : null
    const child = run(round, INCIDENTS, write)
    const signal = ended(child)
    let wait = 1 + Math.floor(Math.random() * INCIDENTS)
    if (write === null) {
      onRequest = (response) => {
        if (how === 'answered') response.writeHead(204).end()
        if (--wait === 0) child.kill('SIGKILL')
        if (how === 'unanswered' && wait > 0) response.writeHead(204).end()
      }
    }
    t.equal(await signal, 'SIGKILL', write === null ? `while a message is ${how}` : `at write ${write}`)
    onRequest = (response) => response.writeHead(204).end()
  }

  run(KILLS, 1, null)
  const bodiesOf = (received: typeof singly.received) => {
    const bodies = new Map<string, string>()
    for (const { headers, body } of received) {
      const key = String(headers['idempotency-key'])
      if ((bodies.get(key) ?? body) !== body) t.fail(`${key} has two bodies`)
      bodies.set(key, body)
    }
    return [...bodies.values()].map((body) => JSON.parse(body) as Body)
  }
  const eventsOf = () =>
    bodiesOf(singly.received).map((body) => ('occurrence' in body ? `${body.incident.id} ${body.event}` : ''))
  const newsOf = () =>
    bodiesOf(together.received).reduce(
      (sum, body) => sum + (body.event === 'digest' ? body.digest.news : 1),
      0,
    )
  await until('all that was left has arrived', () => {
    const found = new Set(eventsOf())
    return left().includes(`${KILLS}-0 resolved`) && left().every((event) => found.has(event))
  })
  // Some may have been left by whoever was killed before it said so.
  await until('what comes together is the same', () => newsOf() === eventsOf().length)
  const events = eventsOf()
  t.equal(new Set(events).size, events.length, 'each event has one key')
  const byIncident = Map.groupBy(events, (event) => event.split(' ')[0])
  for (const [id, found] of byIncident)
    t.same(
      found,
      ['opened', 'updated', 'resolved'].slice(0, found.length).map((event) => `${id} ${event}`),
    )
  t.ok(left().length >= 3, `${left().length} events`)
})

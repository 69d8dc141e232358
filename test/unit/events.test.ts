/** The log of events: bounded, resumable, and the same for whoever reads it, fast or slow. */
import { once } from 'node:events'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { mock } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import { fastify } from 'fastify'
import t from 'tap'
import { secureHeaders } from '../../src/api/http/security-headers.ts'
import { type Api, addRoutes, type TypeBoxProvider } from '../../src/api/route.ts'
import { eventRoutes } from '../../src/api/routes/events.ts'
import { type Cursor, type Event, EventLog } from '../../src/control/event-log.ts'
import { LineBudget } from '../../src/control/watching/line-budget.ts'
import { openLog } from '../../src/service/log.ts'
import { directory, run } from './support.ts'
import './seed.ts'

const START = Date.parse('2026-11-24T00:00:00Z')

function readAll(cursor: Cursor): (Event | 'gap')[] {
  const found: (Event | 'gap')[] = []
  for (let event = cursor.next(); event !== null; event = cursor.next()) found.push(event)
  return found
}

const numbers = (found: readonly (Event | 'gap')[]) =>
  found.map((event) => (event === 'gap' ? event : JSON.parse(event.data).n))

t.test('whoever comes back goes on where it was, or learns of a gap', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.constantFrom('publish', 'read', 'come back'), { maxLength: 200 }),
      (maxEvents, steps) => {
        const log = new EventLog({ now: () => START, maxEvents })
        const wanted: (number | 'gap')[] = []
        const found: (number | 'gap')[] = []
        let published = 0
        let read = 0
        let cursor = log.read(null)
        let last: string | null = null
        for (const step of steps) {
          if (step === 'publish') log.publish('apply', { n: ++published })
          else {
            if (step === 'come back' && last !== null) cursor = log.read(last)
            const events = readAll(cursor)
            found.push(...numbers(events))
            last = events.findLast((event) => event !== 'gap')?.id ?? last
            const kept = Math.max(read, published - maxEvents)
            if (kept > read) wanted.push('gap')
            for (let n = kept + 1; n <= published; n++) wanted.push(n)
            read = published
          }
        }
        return JSON.stringify(found) === JSON.stringify(wanted)
      },
    ),
  )
})

t.test('an id from another run, or none at all, means all that is kept, and a gap', async (t) => {
  const log = new EventLog({ now: () => START })
  log.publish('apply', { n: 1 })
  for (const id of [`${START - 1}-1`, `${START}-7`, 'x', '1-2-3', '-', `${START}--1`])
    t.same(numbers(readAll(log.read(id))), ['gap', 1], id)
  t.same(numbers(readAll(log.read(`${START}-0`))), [1])
  t.same(numbers(readAll(log.read(null))), [], 'whoever is new hears what comes')
})

t.test('what is kept is bounded in bytes', async (t) => {
  const log = new EventLog({ now: () => START, maxBytes: 10_000 })
  for (let n = 0; n < 1_000; n++) log.publish('apply', { n, filler: 'x'.repeat(900) })
  const kept = readAll(log.read(`${START}-0`))
  t.equal(kept[0], 'gap')
  t.ok(kept.length > 5 && kept.length < 12, `${kept.length}`)
})

t.test('of very many attempts some are passed on, and the others told as a number', async (t) => {
  let now = START
  const log = new EventLog({ now: () => now, maxAttempts: 10 })
  const cursor = log.read(null)
  let asked = 0
  for (let n = 0; n < 5_000; n++) log.publishAttempt(() => ({ n: ++asked }))
  now += 1_000
  log.tick()
  const found = readAll(cursor) as Event[]
  t.equal(asked, 10, 'nobody makes what nobody reads')
  t.same(
    found.map(({ type }) => type),
    [...Array(10).fill('attempt'), 'attempts-skipped'],
  )
  t.match(JSON.parse(found.at(-1)?.data ?? ''), { count: 4_990, time: '2026-11-24T00:00:01.000Z' })
  log.publishAttempt(() => ({}))
  t.equal(readAll(cursor).length, 1, 'a new second, a new allowance')
})

t.test('listeners are called for each event until they stop', async (t) => {
  const log = new EventLog({ now: () => START })
  let calls = 0
  const stop = log.listen(() => calls++)
  log.publish('apply', {})
  log.publish('drift', {})
  stop()
  log.publish('drift', {})
  t.equal(calls, 2)
})

t.test('a log takes so many lines a second, and knows how many it left out', async (t) => {
  const lines = new LineBudget(3)
  const take = (count: number, now: number) =>
    Array.from({ length: count }, () => lines.take(now)).filter(Boolean).length
  t.equal(take(2, 1_000), 2)
  t.equal(take(5, 1_999), 1)
  t.equal(lines.takeLeftOut(), 4)
  t.equal(take(4, 2_000), 3)
  t.equal(take(1, 1_500), 1, 'also when the clock is set back')
  t.equal(lines.takeLeftOut(), 1)
  t.equal(lines.takeLeftOut(), 0)
})

t.test(
  'a log that cannot be written is in nobody\u2019s way, and says afterwards what it lost',
  async (t) => {
    const folder = await directory(t)
    const path = join(folder, 'log')
    t.equal((await run('mkfifo', [path])).code, 0)
    const pipe = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
    t.teardown(() => closeSync(pipe))
    const { log, output } = openLog('gw1', pipe)
    t.equal(output.failure, null)
    for (let line = 0; line < 3_000; line++) log.info({ line, filler: 'x'.repeat(1_000) }, 'a line')
    t.match(output.failure, { code: 'EAGAIN' })
    let text = ''
    const take = () => {
      const bytes = Buffer.alloc(65_536)
      try {
        for (;;) text += bytes.toString('utf8', 0, readSync(pipe, bytes))
      } catch {
        // All of it was taken.
      }
    }
    while (!text.includes('are lost')) {
      take()
      log.info('one more')
      await new Promise((resolve) => setImmediate(resolve))
    }
    t.equal(output.failure, null)
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { line?: number; lines?: number })
    const kept = lines.flatMap(({ line }) => line ?? [])
    t.same(kept, [...kept.keys()], 'the first ones, in their order')
    const lost = lines.reduce((sum, { lines: left = 0 }) => sum + left, 0)
    t.ok(kept.length + lost >= 3_000 && lost > 0, `${kept.length} and ${lost}`)
  },
)

t.test('who does not read is cut after some signs of life; who reads is not', async (t) => {
  const events = new EventLog({ now: Date.now })
  const app = fastify().withTypeProvider<TypeBoxProvider>() as unknown as Api
  secureHeaders(app, { overTls: false })
  app.decorateRequest('identity', null)
  app.addHook('onRequest', async (request) => {
    request.identity = { name: 'somebody', role: 'viewer', by: 'place', tokenId: null }
  })
  await addRoutes(app, eventRoutes, { events, isStill: () => true })
  const path = join(await directory(t), 'api.sock')
  await app.listen({ path })
  t.teardown(() => app.close())
  const theirs = new Map<Socket, Socket>()
  const open = async () => {
    const arrived = once(app.server, 'connection')
    const socket = connect({ path, onread: { buffer: Buffer.alloc(65_536), callback: () => true } })
    theirs.set(socket, (await arrived)[0] as Socket)
    return socket
  }
  // The service's clock: an interval that is not real stands still otherwise.
  mock.timers.enable({ apis: ['setInterval'] })
  t.teardown(() => mock.timers.reset())
  const deaf = await open()
  const eager = await open()
  for (const socket of [deaf, eager]) {
    t.teardown(() => socket.destroy())
    socket.write('GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
  }
  while (deaf.bytesRead === 0 || eager.bytesRead === 0) await wait(5)
  deaf.pause()
  const isOver = (socket: Socket) => theirs.get(socket)?.destroyed === true
  const words = 'x'.repeat(20_000)
  for (let sign = 0, sent = 0; sign < 100 && !isOver(deaf); sign++) {
    for (let event = 0; event < 20; event++, sent += words.length) events.publish('apply', { words })
    while (eager.bytesRead < sent && !isOver(eager)) await wait(5)
    mock.timers.tick(15_000)
  }
  t.ok(isOver(deaf))
  t.notOk(isOver(eager))
})

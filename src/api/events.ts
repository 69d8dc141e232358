/** `/v1/events`: server-sent events (HTML Standard §9.2), with resumption by `Last-Event-ID`. */
import type { ServerResponse } from 'node:http'
import { Type } from 'typebox'
import { EVENT_TYPES, type Event, type EventLog } from '../control/event-log.ts'
import type { Context } from './context.ts'
import { ApiError } from './problem.ts'
import type { Routes } from './route.ts'

const MOST_LISTENERS = 100
/** Milliseconds between signs of life, for proxies that end what is silent. */
const HEARTBEAT = 15_000

const EventsQuery = Type.Object(
  { types: Type.Optional(Type.String({ pattern: '^[a-z,-]{1,200}$' })) },
  { additionalProperties: false },
)

export const eventRoutes: Routes<Pick<Context, 'events'>> = (app, { events }) => {
  const open = new Set<ServerResponse>()
  app.addHook('preClose', async () => {
    for (const response of open) response.end()
  })

  app.get(
    '/v1/events',
    {
      schema: {
        operationId: 'listenToEvents',
        summary: 'What happens, as it happens: server-sent events',
        tags: ['events'],
        querystring: EventsQuery,
        response: { 200: { content: { 'text/event-stream': { schema: Type.String() } } } },
      },
      config: { access: 'viewer', problems: ['too-many-listeners'] },
    },
    async ({ headers, method, query: { types } }, reply) => {
      const isWanted = readTypes(types)
      if (method === 'HEAD') return reply.type('text/event-stream').send('')
      if (open.size >= MOST_LISTENERS)
        throw new ApiError('too-many-listeners', `${MOST_LISTENERS} listen already; try again later`)
      for (const [name, value] of Object.entries(reply.getHeaders())) reply.raw.setHeader(name, value ?? '')
      reply.hijack()
      const { raw } = reply
      raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
      open.add(raw)
      const lastId = headers['last-event-id']
      const stop = stream(raw, events, isWanted, typeof lastId === 'string' && lastId !== '' ? lastId : null)
      raw.once('close', () => {
        stop()
        open.delete(raw)
      })
    },
  )
}

/** @throws ApiError */
function readTypes(types: string | undefined): (event: Event) => boolean {
  if (types === undefined) return () => true
  const wanted = new Set(types.split(','))
  for (const type of wanted) {
    if (!(EVENT_TYPES as readonly string[]).includes(type))
      throw new ApiError('bad-request', `types: ${type} is none of ${EVENT_TYPES.join(', ')}`)
  }
  return ({ type }) => wanted.has(type)
}

/** Writes events as fast as the listener takes them, until it goes. Answers how to stop. */
function stream(
  response: ServerResponse,
  events: EventLog,
  isWanted: (event: Event) => boolean,
  lastId: string | null,
): () => void {
  const cursor = events.read(lastId)
  let mayWrite = response.write(': egress25\n\n')
  const pump = () => {
    while (mayWrite) {
      const event = cursor.next()
      if (event === null) return
      if (event === 'gap') mayWrite = response.write('event: gap\ndata: {}\n\n')
      else if (isWanted(event))
        mayWrite = response.write(`id: ${event.id}\nevent: ${event.type}\ndata: ${event.data}\n\n`)
    }
  }
  response.on('drain', () => {
    mayWrite = true
    pump()
  })
  const unlisten = events.listen(pump)
  const heartbeat = setInterval(() => {
    if (mayWrite) mayWrite = response.write(':\n\n')
  }, HEARTBEAT)
  pump()
  return () => {
    unlisten()
    clearInterval(heartbeat)
  }
}

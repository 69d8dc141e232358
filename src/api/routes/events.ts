/** `/v1/events`: server-sent events (HTML Standard §9.2), with resumption by `Last-Event-ID`. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Type } from 'typebox'
import { isLoopback } from '../../config/api.ts'
import { EVENT_TYPES, type Event, type EventLog } from '../../control/event-log.ts'
import type { Identity } from '../access/authenticate.ts'
import type { Context } from '../context.ts'
import { ApiError, wrong } from '../http/problem.ts'
import type { Routes } from '../route.ts'

/** Who may listen at once: all together, and one caller or one address that is not of this machine. */
const MOST_LISTENERS = 100
const MOST_OF_ONE = 20
/** Milliseconds between signs of life, for proxies that end what is silent. */
const HEARTBEAT = 15_000
/** So many signs of life that somebody may leave unread; then the connection is cut. */
const MOST_UNREAD = 4

const EventsQuery = Type.Object(
  { types: Type.Optional(Type.String({ pattern: '^[a-z,-]{1,200}$' })) },
  { additionalProperties: false },
)

interface Needs extends Pick<Context, 'events'> {
  /** Whether somebody who was let in still would be. */
  readonly isStill: (identity: Identity, request: IncomingMessage) => boolean
}

export const eventRoutes: Routes<Needs> = (app, { events, isStill }) => {
  /** Whom each listener counts for. */
  const open = new Map<ServerResponse, readonly string[]>()
  app.addHook('preClose', async () => {
    for (const response of open.keys()) response.end()
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
    async ({ headers, method, query: { types }, identity, ip, raw: asked }, reply) => {
      const isWanted = readTypes(types)
      if (method === 'HEAD') return reply.type('text/event-stream').send('')
      const counted = countedAs(identity, ip)
      mustHaveRoom(open, counted)
      const raw = reply.takeOver(['content-type', 'text/event-stream', 'cache-control', 'no-store'])
      open.set(raw, counted)
      const lastId = headers['last-event-id']
      const stop = stream(raw, events, {
        isWanted,
        lastId: typeof lastId === 'string' && lastId !== '' ? lastId : null,
        mayListen: () => identity !== null && isStill(identity, asked),
      })
      raw.once('close', () => {
        stop()
        open.delete(raw)
      })
    },
  )
}

/** The users of this machine share their addresses, and often their name. Over the unix socket there is no address. */
function countedAs(identity: Identity | null, ip: string | undefined): string[] {
  if (identity === null || identity.by === 'place') return []
  const caller = `caller ${identity.name}`
  const isLocal = ip === undefined || ip === '' || isLoopback(ip.replace(/^::ffff:/, ''))
  return isLocal ? [caller] : [caller, `address ${ip}`]
}

/** @throws ApiError */
function mustHaveRoom(
  open: ReadonlyMap<ServerResponse, readonly string[]>,
  counted: readonly string[],
): void {
  if (open.size >= MOST_LISTENERS)
    throw new ApiError('too-many-listeners', `${MOST_LISTENERS} listen already; try again later`)
  for (const one of counted) {
    const already = [...open.values()].filter((names) => names.includes(one)).length
    if (already >= MOST_OF_ONE)
      throw new ApiError('too-many-listeners', `${one} listens ${MOST_OF_ONE} times already`)
  }
}

/** @throws ApiError */
function readTypes(types: string | undefined): (event: Event) => boolean {
  if (types === undefined) return () => true
  const wanted = new Set(types.split(','))
  for (const type of wanted) {
    if (!(EVENT_TYPES as readonly string[]).includes(type))
      throw wrong('/querystring/types', `names ${type}, which is none of ${EVENT_TYPES.join(', ')}`)
  }
  return ({ type }) => wanted.has(type)
}

interface Listening {
  readonly isWanted: (event: Event) => boolean
  /** After which it goes on; null: with what comes. */
  readonly lastId: string | null
  readonly mayListen: () => boolean
}

/**
 * Writes events as fast as the listener takes them, until it goes. One that does not read holds no more than its socket
 * does, and is cut after a while. Answers how to stop.
 */
function stream(
  response: ServerResponse,
  events: EventLog,
  { isWanted, lastId, mayListen }: Listening,
): () => void {
  const cursor = events.read(lastId)
  let unread = 0
  let mayWrite = response.write(': egress25\n\n')
  const pump = () => {
    while (mayWrite) {
      const event = cursor.next()
      if (event === null) return
      // A revoked token is told nothing more, however near the next sign of life is.
      if (!mayListen()) {
        response.end()
        return
      }
      if (event === 'gap') mayWrite = response.write('event: gap\ndata: {}\n\n')
      else if (isWanted(event))
        mayWrite = response.write(`id: ${event.id}\nevent: ${event.type}\ndata: ${event.data}\n\n`)
    }
  }
  response.on('drain', () => {
    mayWrite = true
    unread = 0
    pump()
  })
  const unlisten = events.listen(pump)
  const heartbeat = setInterval(() => {
    if (!mayListen()) response.end()
    else if (mayWrite) mayWrite = response.write(':\n\n')
    else if (++unread >= MOST_UNREAD) response.destroy()
  }, HEARTBEAT)
  pump()
  return () => {
    unlisten()
    clearInterval(heartbeat)
  }
}

// Runs inside a namespace: makes, accepts and holds TCP connections. See probe.ts for the other side.
import { createServer, isIPv6, type Server, Socket } from 'node:net'
import { hrtime } from 'node:process'
import { serve } from './worker.ts'

export type Outcome = 'connected' | 'reset' | 'timeout' | 'unreachable'
export type SendOutcome = 'ok' | 'reset' | 'closed' | 'timeout'

export interface Attempt {
  readonly from: string
  readonly to: string
  readonly port: number
  /** Below the second after which the kernel sends its next SYN, so that an attempt is one SYN; default 900. */
  readonly timeoutMs?: number
}

export interface Accepted {
  readonly from: string
  readonly to: string
  readonly port: number
  readonly connections: number
}

export interface Cut {
  readonly how: 'reset' | 'closed'
  /** Milliseconds from the connection's opening to its end. */
  readonly afterMs: number
}

interface Held {
  readonly socket: Socket
  readonly openedAt: number
  received: string
  cut: Cut | undefined
  /** Called on whatever happens next: data, or the end. */
  wake: () => void
}

const lingerMs = 200

function connect(attempt: Attempt): Promise<Outcome> {
  return open(attempt, (socket) => {
    // Whoever closes first keeps the port for a minute. We want ours back, so the listener may go first.
    const timer = setTimeout(() => socket.destroy(), lingerMs)
    socket.on('data', () => socket.destroy())
    socket.on('end', () => socket.destroy())
    socket.on('close', () => clearTimeout(timer))
  })
}

function open(attempt: Attempt, onOpen: (socket: Socket) => void): Promise<Outcome> {
  const { from, to, port, timeoutMs = 900 } = attempt
  return new Promise((resolve, reject) => {
    const socket = new Socket()
    // When this process was held up, what has come meanwhile is looked at before it is called late.
    const timer = setTimeout(() => setImmediate(setImmediate, late), timeoutMs)
    const late = () => {
      if (!socket.connecting) return
      socket.destroy()
      resolve('timeout')
    }
    socket.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      const outcome = outcomes[error.code ?? '']
      if (outcome) resolve(outcome)
      else reject(error) // a mistake of the one who asks, such as an address that is none
    })
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve('connected')
      onOpen(socket)
    })
    socket.connect({ host: to, port, localAddress: from, autoSelectFamily: false })
  })
}

// An ICMP port unreachable is told apart from a TCP reset by nothing but a packet capture.
const outcomes: Readonly<Record<string, Outcome>> = {
  ECONNREFUSED: 'reset',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
  EACCES: 'unreachable',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  ETIMEDOUT: 'timeout',
}

const listeners: Server[] = []
const accepted = new Map<string, number>()

async function listen({ ports, echo }: { ports: readonly number[]; echo: boolean }): Promise<void> {
  await Promise.all(ports.flatMap((port) => ['0.0.0.0', '::'].map((host) => listenOn(host, port, echo))))
}

function listenOn(host: string, port: number, echo: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      const key = `${socket.remoteAddress} ${socket.localAddress} ${port}`
      accepted.set(key, (accepted.get(key) ?? 0) + 1)
      socket.on('error', () => {})
      if (echo) socket.pipe(socket)
      else socket.destroy()
    })
    server.once('error', reject)
    server.listen({ host, port, ipv6Only: isIPv6(host), backlog: 4096 }, resolve)
    listeners.push(server)
  })
}

function takeAccepted(): Accepted[] {
  const all = [...accepted].map(([key, connections]) => {
    const [from = '', to = '', port] = key.split(' ')
    return { from, to, port: Number(port), connections }
  })
  accepted.clear()
  return all
}

const held = new Map<number, Held>()
let holds = 0

async function hold(attempt: Attempt): Promise<{ outcome: Outcome; id: number }> {
  const id = ++holds
  const outcome = await open(attempt, (socket) => held.set(id, watch(socket)))
  return { outcome, id }
}

function watch(socket: Socket): Held {
  const openedAt = now()
  const one: Held = { socket, openedAt, received: '', cut: undefined, wake: () => {} }
  const over = (how: Cut['how']) => {
    one.cut ??= { how, afterMs: now() - openedAt }
    one.wake()
  }
  socket.on('data', (chunk: Buffer) => {
    one.received += chunk.toString()
    one.wake()
  })
  socket.on('error', () => over('reset'))
  socket.on('end', () => over('closed'))
  socket.on('close', () => over('closed'))
  return one
}

interface Send {
  readonly id: number
  readonly text: string
  readonly reply: boolean
  readonly timeoutMs: number
}

/** Sends, then waits for a reply; or, when none is due, for the time in which a refusal would have come. */
async function send({ id, text, reply, timeoutMs }: Send): Promise<{ outcome: SendOutcome; reply: string }> {
  const one = get(id)
  if (text !== '') one.received = '' // an empty text waits for what the other side says by itself
  const answered = () => one.cut !== undefined || (reply && one.received !== '')
  if (text !== '' && !one.cut) one.socket.write(text)
  await until(one, answered, timeoutMs)
  if (one.cut) return { outcome: one.cut.how, reply: one.received }
  return { outcome: reply && one.received === '' ? 'timeout' : 'ok', reply: one.received }
}

/** Waits until the connection's end, if it comes in time. */
async function cut({ id, timeoutMs }: { id: number; timeoutMs: number }): Promise<Cut | null> {
  const one = get(id)
  await until(one, () => one.cut !== undefined, timeoutMs)
  return one.cut ?? null
}

function until(one: Held, done: () => boolean, timeoutMs: number): Promise<void> {
  return new Promise((resolve) => {
    const before = one.wake
    const finish = () => {
      clearTimeout(timer)
      one.wake = before
      resolve()
    }
    const timer = setTimeout(finish, timeoutMs)
    one.wake = () => {
      before()
      if (done()) finish()
    }
    if (done()) finish()
  })
}

function release({ id }: { id: number }): void {
  held.get(id)?.socket.destroy()
  held.delete(id)
}

/** The worker has read its own files by now, so that the user need not be able to. */
function become({ uid }: { uid: number }): void {
  process.setuid?.(uid)
}

function get(id: number): Held {
  const one = held.get(id)
  if (!one) throw new Error(`no connection ${id} is held`)
  return one
}

function now(): number {
  return Number(hrtime.bigint()) / 1e6
}

const handlers = { connect, listen, accepted: takeAccepted, hold, send, cut, release, become }
export type ProbeHandlers = typeof handlers
serve(handlers)

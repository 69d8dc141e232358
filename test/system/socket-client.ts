/** Requests over a unix socket, which is the same in every network namespace: any method, any head, any body. */
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import type { Answer } from '../../scripts/lab/http.ts'

export interface Question {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
}

/** An answer that goes on, such as a stream of events. */
export interface Stream {
  readonly status: number
  /** Of what has come until now. */
  text(): string
  /** Whether the other side has ended it. */
  isOver(): boolean
  close(): void
}

/** Asks over a connection of its own; resolves with the head of the answer. */
export function openStream(socketPath: string, { method, path, headers = {} }: Question): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, agent: false, method, path, headers }, (response) => {
      let text = ''
      let isOver = false
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk
      })
      response.on('error', () => {})
      response.on('close', () => {
        isOver = true
      })
      resolve({
        status: response.statusCode ?? 0,
        text: () => text,
        isOver: () => isOver,
        close: () => outgoing.destroy(),
      })
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}

/** A connection on which nothing is said but what is given. */
export interface Raw {
  /** Whether the other side has ended it. */
  isOver(): boolean
  /** Whether all that was to be said has left. */
  isSent(): boolean
  /** What was answered until now. */
  text(): string
  close(): void
}

export function openRaw(socketPath: string, said: string): Raw {
  const socket = connect({ path: socketPath })
  let isOver = false
  for (const event of ['close', 'end', 'error']) socket.on(event, () => (isOver = true))
  let isSent = false
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk
  })
  socket.on('connect', () => socket.write(said, () => (isSent = true)))
  return { isOver: () => isOver, isSent: () => isSent, text: () => text, close: () => socket.destroy() }
}

export interface SocketClient {
  /** Fails when no answer comes within a minute. */
  ask(question: Question): Promise<Answer>
  close(): void
}

export function openSocketClient(socketPath: string): SocketClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  return {
    close: () => agent.destroy(),
    ask: ({ method, path, headers = {}, body }) =>
      new Promise((resolve, reject) => {
        const signal = AbortSignal.timeout(60_000)
        const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
        const options = { socketPath, agent, method, path, headers: { ...headers, ...length }, signal }
        const outgoing = request(options, (response) => {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (chunk) => {
            text += chunk
          })
          response.on('error', reject)
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers as Record<string, string>,
              text,
            }),
          )
        })
        outgoing.on('error', reject)
        outgoing.end(body)
      }),
  }
}

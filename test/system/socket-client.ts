/** Requests over a unix socket, which is the same in every network namespace: any method, any head, any body. */
import { Agent, request } from 'node:http'
import type { Answer } from '../../scripts/lab/http.ts'

export interface Question {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface SocketClient {
  /** Fails when no answer comes within half a minute. */
  ask(question: Question): Promise<Answer>
  close(): void
}

export function openSocketClient(socketPath: string): SocketClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  return {
    close: () => agent.destroy(),
    ask: ({ method, path, headers = {}, body }) =>
      new Promise((resolve, reject) => {
        const signal = AbortSignal.timeout(30_000)
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

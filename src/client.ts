/** The command's side of the API. */
import { request } from 'node:http'
import { localCaller } from './commands/local-caller.ts'
import type { Listen } from './config/api.ts'

export interface Answer {
  readonly status: number
  readonly body: unknown
}

/** Nobody answers at any of the addresses. */
export class UnreachableError extends Error {}

const TIMEOUT = 310_000

/**
 * Asks the service, at its socket first.
 * @throws UnreachableError when no address answers
 */
export async function callService(
  listen: readonly Listen[],
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: unknown,
): Promise<Answer> {
  const reasons: string[] = []
  for (const address of [...listen].sort((a, b) => Number(a.kind === 'tcp') - Number(b.kind === 'tcp'))) {
    try {
      return await call(address, method, path, body)
    } catch (error) {
      const where = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`
      reasons.push(`${where}: ${(error as Error).message}`)
    }
  }
  throw new UnreachableError(
    `the service does not answer (${reasons.join('; ')}); is egress25.service running?`,
  )
}

function call(address: Listen, method: string, path: string, body: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const place =
      address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }
    const headers = {
      // Who may reach the socket is believed who it is.
      ...(address.kind === 'unix' ? { 'x-egress25-user': localCaller().name } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    }
    const options = { ...place, method, path, headers, timeout: TIMEOUT, agent: false }
    const outgoing = request(options, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => {
        try {
          resolve({ status: response.statusCode ?? 0, body: text === '' ? null : JSON.parse(text) })
        } catch (error) {
          reject(error)
        }
      })
      response.on('error', reject)
    })
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')))
    outgoing.on('error', reject)
    outgoing.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

// Runs inside a namespace: asks HTTP servers there, and receives signed webhooks. See http.ts for the other side.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import { serve, tell } from './worker.ts'

export interface Question {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** JSON, or null for no body. */
  readonly body: unknown
  readonly timeoutMs: number
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
}

export interface Delivery {
  /** Milliseconds since the epoch. */
  readonly at: number
  /** What is wrong with its signature; null when it is right. */
  readonly fault: string | null
  /** What it is known by when it comes twice: the header Idempotency-Key. */
  readonly key: string
  readonly body: string
}

async function ask({ method, url, headers, body, timeoutMs }: Question): Promise<Answer> {
  const json = body === null ? {} : { body: JSON.stringify(body) }
  const type = body === null ? {} : { 'content-type': 'application/json' }
  const signal = AbortSignal.timeout(timeoutMs)
  const answer = await fetch(url, { method, headers: { ...type, ...headers }, signal, ...json })
  return { status: answer.status, headers: Object.fromEntries(answer.headers), text: await answer.text() }
}

/** Asks again and again until the server answers 200. Nobody tells us when it listens. */
async function untilOk({ url, timeoutMs }: { url: string; timeoutMs: number }): Promise<void> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) }).catch(() => null)
    await answer?.body?.cancel()
    if (answer?.status === 200) return
    if (Date.now() > deadline) throw new Error(`${url} does not answer 200 after ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function receive({ port, secret }: { port: number; secret: string }): Promise<void> {
  const server = createServer(async (request, response) => {
    const body = await read(request)
    const fault = signatureFault(request, body, secret)
    const key = String(request.headers['idempotency-key'] ?? '')
    // Before the answer: what whoever delivers does then comes after it.
    tell('delivery', { at: Date.now(), fault, key, body: body.toString() } satisfies Delivery)
    response.statusCode = fault === null ? 204 : 401
    response.end()
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
}

async function read(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

function signatureFault(request: IncomingMessage, body: Buffer, secret: string): string | null {
  const header = String(request.headers['egress25-signature'] ?? '')
  const { t = '', v1 = '' } = /^t=(?<t>\d+),v1=(?<v1>[0-9a-f]{64})$/.exec(header)?.groups ?? {}
  if (t === '') return `header Egress25-Signature is ${header === '' ? 'missing' : `malformed: ${header}`}`
  if (Math.abs(Date.now() / 1_000 - Number(t)) > 300) return 'signature is older than five minutes'
  const expected = createHmac('sha256', secret).update(`${t}.`).update(body).digest()
  return timingSafeEqual(expected, Buffer.from(v1, 'hex')) ? null : 'signature does not match'
}

const handlers = { ask, untilOk, receive }
export type HttpHandlers = typeof handlers
serve(handlers)

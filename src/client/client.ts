/** The command's side of the API. */
import { readFile } from 'node:fs/promises'
import {
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http'
import { request as httpsRequest } from 'node:https'
import { createInterface } from 'node:readline'
import type { Listen } from '../config/api.ts'
import { ConfigError } from '../config-error.ts'
import { localCaller } from './local-caller.ts'

export interface Answer {
  readonly status: number
  readonly body: unknown
  /** The version of the document that was answered. */
  readonly etag: string | null
}

/** One of the service's events. */
export interface Heard {
  readonly type: string
  readonly data: Readonly<Record<string, unknown>>
}

/** Nobody answers at any of the addresses. */
export class UnreachableError extends Error {
  /**
   * `absent`: nobody listens here, so that a command may do by itself what the service would; `silent`: it may well run, but
   * does not answer, or not this user; `elsewhere`: it is another machine's.
   */
  readonly service: 'absent' | 'silent' | 'elsewhere'

  constructor(message: string, service: UnreachableError['service'] = 'silent') {
    super(message)
    this.service = service
  }
}

/** For commands that do without the service where none runs. @throws what it is given, when one may run */
export function mustBeAbsent(error: unknown): void {
  if (!(error instanceof UnreachableError) || error.service !== 'absent') throw error
}

/** What the system says of an address where nobody listens, and of one that is not for everybody. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket',
  ECONNREFUSED: 'nobody listens',
  EACCES: 'not for this user (EACCES)',
  ...Object.fromEntries(
    // What TLS says where nobody vouches for the other side.
    [
      'DEPTH_ZERO_SELF_SIGNED_CERT',
      'SELF_SIGNED_CERT_IN_CHAIN',
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    ].map((code) => [
      code,
      `its certificate is not trusted (${code}): EGRESS25_CA_FILE names a file with whom to trust`,
    ]),
  ),
}
const ABSENT = ['ENOENT', 'ECONNREFUSED']

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

const TIMEOUT = 310_000

/**
 * Asks the service, at its socket first. Another one, with `EGRESS25_URL`; `EGRESS25_TOKEN_FILE` names the file with the
 * token, and `EGRESS25_CA_FILE` one with the authorities to trust.
 * @throws UnreachableError when no address answers as egress25 does, ConfigError when the environment is not as it should be
 */
export async function callService(
  listen: readonly Listen[],
  method: Method,
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const type = body === undefined ? {} : { 'content-type': 'application/json' }
  const response = await reach(listen, {
    method,
    path,
    headers: { ...headers, ...type },
    body: body === undefined ? '' : JSON.stringify(body),
  })
  response.setEncoding('utf8')
  let text = ''
  for await (const chunk of response) text += chunk
  const { statusCode = 0, headers: answered } = response
  return { status: statusCode, body: bodyOf(response, text), etag: answered.etag ?? null }
}

/** @throws UnreachableError when it is no JSON: a proxy, or another program at our port, is no service */
function bodyOf({ statusCode, headers }: IncomingMessage, text: string): unknown {
  if (text === '') return null
  try {
    return JSON.parse(text)
  } catch {
    const what = `${statusCode}, ${headers['content-type'] ?? 'of no type'}`
    throw new UnreachableError(
      `what answers is not egress25 (${what}): another program at its address, or a proxy?`,
    )
  }
}

/**
 * Hears events until it is over, or the service ends.
 * @throws UnreachableError when no address answers, or it answers something else
 */
export async function listenToService(
  listen: readonly Listen[],
  path: string,
  hear: (event: Heard) => void,
  over: AbortSignal,
): Promise<void> {
  const response = await reach(listen, { method: 'GET', path, headers: {}, body: '' })
  const lines = createInterface({ input: response })
  const end = () => response.destroy()
  // A service that dies ends nothing properly; the lines end all the same.
  response.once('close', () => lines.close())
  over.addEventListener('abort', end)
  if (over.aborted) end()
  if (response.statusCode !== 200) {
    end()
    throw new UnreachableError(`the service answers ${response.statusCode} to who wants to hear its events`)
  }
  response.on('error', () => {})
  let type = ''
  for await (const line of lines) {
    if (line.startsWith('event: ')) type = line.slice('event: '.length)
    else if (line.startsWith('data: ')) hear({ type, data: JSON.parse(line.slice('data: '.length)) })
  }
  over.removeEventListener('abort', end)
}

interface Question {
  readonly method: Method
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Where the service may be, and what to say to it there. */
interface Place {
  readonly name: string
  readonly request: (options: RequestOptions, callback: (response: IncomingMessage) => void) => ClientRequest
  readonly options: RequestOptions & { readonly ca?: string }
  readonly headers: Readonly<Record<string, string>>
}

async function reach(
  listen: readonly Listen[],
  { method, path, headers, body }: Question,
): Promise<IncomingMessage> {
  const reasons: string[] = []
  const codes = new Set<string>()
  for (const place of await placesOf(listen)) {
    try {
      return await new Promise((resolve, reject) => {
        const options = {
          ...place.options,
          method,
          path,
          headers: { ...place.headers, ...headers },
          timeout: TIMEOUT,
          agent: false,
        }
        const outgoing = place.request(options, resolve)
        outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')))
        outgoing.on('error', reject)
        outgoing.end(body)
      })
    } catch (error) {
      const { message, code = '' } = error as NodeJS.ErrnoException
      codes.add(code)
      reasons.push(`${place.name}: ${REASONS[code] ?? message}`)
    }
  }
  const said = `the service does not answer (${reasons.join('; ')})`
  if (isElsewhere()) throw new UnreachableError(said, 'elsewhere')
  if (codes.has('EACCES'))
    throw new UnreachableError(`${said}; only root and the group of the socket may ask there: try sudo`)
  throw new UnreachableError(
    `${said}; is egress25.service running?`,
    [...codes].every((code) => ABSENT.includes(code)) ? 'absent' : 'silent',
  )
}

/** Whether another address is asked than those of the configuration. */
function isElsewhere(): boolean {
  return (process.env['EGRESS25_URL'] ?? '') !== ''
}

async function placesOf(listen: readonly Listen[]): Promise<Place[]> {
  const token = await fileNamedIn('EGRESS25_TOKEN_FILE')
  const authorization = token === null ? {} : { authorization: `Bearer ${token.trim()}` }
  if (isElsewhere()) {
    const where = URL.parse(process.env['EGRESS25_URL'] ?? '')
    if (where === null || !/^https?:$/.test(where.protocol))
      throw new ConfigError('EGRESS25_URL is no address like https://gw1.example.net:7025')
    const ca = await fileNamedIn('EGRESS25_CA_FILE')
    const options = {
      host: where.hostname.replace(/^\[|\]$/g, ''),
      port: where.port || (where.protocol === 'https:' ? 443 : 80),
      ...(ca === null ? {} : { ca }),
    }
    const request = where.protocol === 'https:' ? httpsRequest : httpRequest
    return [{ name: where.host, request, options, headers: authorization }]
  }
  return [...listen]
    .sort((a, b) => Number(a.kind === 'tcp') - Number(b.kind === 'tcp'))
    .map((address) =>
      address.kind === 'unix'
        ? {
            name: address.path,
            request: httpRequest,
            options: { socketPath: address.path },
            // Who may reach the socket is believed who it is.
            headers: { 'x-egress25-user': localCaller().name },
          }
        : {
            name: `${address.host}:${address.port}`,
            request: httpRequest,
            options: { host: address.host, port: address.port },
            headers: authorization,
          },
    )
}

/** What is in the file that a variable names; its content never becomes part of an error. */
async function fileNamedIn(variable: string): Promise<string | null> {
  const path = process.env[variable]
  if (path === undefined || path === '') return null
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError(`cannot read ${path}, which ${variable} names: ${error.code}`)
  })
}

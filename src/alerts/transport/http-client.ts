/**
 * Posts JSON, and says what an answer means. Nothing is followed, answers are read up to a bound, and the caller's signal
 * ends everything, so that neither a hanging nor a dripping receiver holds anybody up.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { PermanentError, RetryableError } from '../channel.ts'
import { withoutControls } from '../formats/syslog.ts'
import { retryAfterSeconds } from './retry-after.ts'
import { redacted } from './secret.ts'

/** What is read of an answer; it is for people who look for the fault. */
const MAX_ANSWER = 16_384

/** What the receiver will not take any better the next time. 408, 425 and 429 are about time, 401 to 404 get mended. */
const PERMANENT = new Set([400, 405, 406, 409, 410, 411, 413, 414, 415, 421, 422, 431, 451])

export interface Post {
  readonly url: string
  readonly body: string
  readonly headers: Readonly<Record<string, string>>
  readonly signal: AbortSignal
  /** What no error must repeat. */
  readonly secrets: readonly string[]
}

export interface HttpClient {
  /**
   * Fulfils when the receiver has taken it: 2xx.
   * @throws PermanentError, RetryableError
   */
  post(what: Post): Promise<void>
  close(): void
}

/** `ca` holds the certificates that are trusted, in PEM; undefined: those that Node.js comes with. */
export function openHttpClient(ca: string | undefined): HttpClient {
  const agents = {
    'http:': new HttpAgent({ keepAlive: true, maxSockets: 16, timeout: 60_000 }),
    'https:': new HttpsAgent({ keepAlive: true, maxSockets: 16, timeout: 60_000, ca }),
  }
  return {
    async post(what) {
      const answer = await send(what, agents)
      const { status, retryAfter } = answer
      if (status >= 200 && status < 300) return
      const said = withoutControls(redacted(answer.text, what.secrets)).trim().slice(0, 200)
      const message = `the receiver answered ${status}${said === '' ? '' : `: ${said}`}`
      if (PERMANENT.has(status)) throw new PermanentError(message)
      if (status >= 300 && status < 400) throw new RetryableError(`${message} (redirects are not followed)`)
      throw new RetryableError(message, retryAfterSeconds(retryAfter, Date.now()))
    },
    close() {
      for (const agent of Object.values(agents)) agent.destroy()
    },
  }
}

interface Answer {
  readonly status: number
  readonly retryAfter: string | null
  readonly text: string
}

type Agents = Readonly<Record<'http:' | 'https:', HttpAgent | HttpsAgent>>

function send(what: Post, agents: Agents, again = false): Promise<Answer> {
  const url = new URL(what.url)
  const secure = url.protocol === 'https:'
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(what.body),
    'user-agent': 'egress25',
    ...what.headers,
  }
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const request = (secure ? httpsRequest : httpRequest)(url, {
    method: 'POST',
    headers,
    agent: agents[secure ? 'https:' : 'http:'],
    signal: what.signal,
  })
  request.on('response', (response) => readAnswer(response).then(resolve, reject))
  request.on('error', (error: NodeJS.ErrnoException) => {
    // The receiver closed a connection that was kept for later, while this was on its way.
    if (request.reusedSocket && error.code === 'ECONNRESET' && !again) resolve(send(what, agents, true))
    else reject(error)
  })
  request.end(what.body)
  return promise.catch((error: Error) => {
    throw new RetryableError(
      what.signal.aborted ? 'no whole answer in time' : redacted(error.message, what.secrets),
    )
  })
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  let text = ''
  response.setEncoding('utf8')
  for await (const chunk of response) {
    text += chunk
    // Whatever it wants to say, it has taken the message or not; leaving the loop closes the connection.
    if (text.length > MAX_ANSWER) break
  }
  return {
    status: response.statusCode ?? 0,
    retryAfter: response.headers['retry-after'] ?? null,
    text: text.slice(0, MAX_ANSWER),
  }
}

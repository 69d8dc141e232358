/** Answers to what does not become a request: where HTTP allows one at all, it is a problem like all others. */
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { ApiError, PROBLEM_TYPE, problemBody } from './problem.ts'

/** Node's errors of what was sent, where they mean more than that it is not HTTP. */
const ANSWERS: Readonly<Record<string, ApiError>> = {
  HPE_HEADER_OVERFLOW: new ApiError('head-too-large', 'address and headers together are too long'),
  HPE_CHUNK_EXTENSIONS_OVERFLOW: new ApiError('body-too-large', 'the extensions of a chunk are too long'),
  ERR_HTTP_REQUEST_TIMEOUT: new ApiError('request-timeout', 'the request did not arrive in time'),
}
const NOT_HTTP = new ApiError('bad-request', 'this is not HTTP/1.1')

export function answerMalformed(server: Server): void {
  server.on('clientError', ({ code = '' }: NodeJS.ErrnoException, socket: Socket) => {
    // Of TLS, or of a connection that is gone, nothing can be said.
    const isOfHttp = code.startsWith('HPE_') || Object.hasOwn(ANSWERS, code)
    if (isOfHttp && socket.writable && !isAnswering(socket)) write(socket, ANSWERS[code] ?? NOT_HTTP)
    socket.destroy()
  })
  server.on('connect', (_: IncomingMessage, socket: Socket) => {
    write(socket, new ApiError('method-not-allowed', 'this is no proxy'))
    socket.destroy()
  })
  server.on('checkExpectation', ({ headers }: IncomingMessage, response: ServerResponse) => {
    const { status, head, body } = render(
      new ApiError('expectation-failed', `what is expected is ${headers.expect}`),
    )
    response.writeHead(status, head).end(body)
  })
}

/** Whether the head of an answer is on its way: nothing may be written in between. Node says so to nobody else. */
function isAnswering(socket: Socket): boolean {
  const { _httpMessage: answer } = socket as { _httpMessage?: ServerResponse | null }
  return answer?.headersSent === true
}

function write(socket: Socket, error: ApiError): void {
  const { status, head, body } = render(error)
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`)
}

function render(error: ApiError) {
  const problem = problemBody(error)
  const body = JSON.stringify(problem)
  const head = {
    'content-type': PROBLEM_TYPE,
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
  }
  return { status: problem.status, head, body }
}

/** By which of the sockets a request came: that decides whether it must say who it is. */
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'

export type Origin = 'socket' | 'loopback' | 'tls'

const ORIGIN = Symbol('origin')
type Marked = IncomingMessage & { [ORIGIN]?: Origin }

export function mark(request: IncomingMessage, origin: Origin): void {
  ;(request as Marked)[ORIGIN] = origin
}

/** null: by none of ours, and nothing is taken for granted. */
export function originOf(request: IncomingMessage): Origin | null {
  return (request as Marked)[ORIGIN] ?? null
}

/** The connection of a request by TLS. */
export function tlsSocketOf(request: IncomingMessage): TLSSocket {
  return request.socket as TLSSocket
}

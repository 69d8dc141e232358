/** By which of the sockets a request came: that decides whether it must say who it is. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'

export type Origin = 'socket' | 'loopback' | 'tls'

const origins = new WeakMap<Socket, Origin>()

/** Of a connection that was just accepted: all that is asked over it comes from there. */
export function mark(connection: Socket, origin: Origin): void {
  origins.set(connection, origin)
}

/** What comes over it from now on is nobody's: its holder was looked at by what is no longer so. */
export function forget(connection: Socket): void {
  origins.delete(connection)
}

/** null: by none of ours, and nothing is taken for granted. */
export function originOf({ socket }: IncomingMessage): Origin | null {
  return origins.get(socket) ?? null
}

/** The connection of a request by TLS. */
export function tlsSocketOf(request: IncomingMessage): TLSSocket {
  return request.socket as TLSSocket
}

/**
 * Ways to a log server. On a stream each message has a connection of its own: a protocol without answers confirms nothing,
 * but a server that closes its side after we closed ours has read all that came before. Nothing confirms a datagram.
 */
import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { connect as connectTcp, isIP } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { RetryableError } from '../channel.ts'
import { frameSyslog } from '../formats/syslog.ts'

export interface StreamTarget {
  readonly host: string
  readonly port: number
  /** Null: plain TCP. The certificate must be that of the server's name. */
  readonly tls: { readonly ca: string | undefined; readonly serverName: string } | null
}

/** @throws RetryableError when it cannot be reached, is not who it should be, or does not close in time */
export function sendOverStream(
  message: Buffer,
  { host, port, tls }: StreamTarget,
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket =
    tls === null
      ? connectTcp({ host, port })
      : // Without a name, the certificate is held against the host that is connected to.
        connectTls({ host, port, ca: tls.ca, servername: isIP(tls.serverName) > 0 ? '' : tls.serverName })
  const abort = () => socket.destroy(new Error('the log server did not take it in time'))
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  socket.once(tls === null ? 'connect' : 'secureConnect', () => socket.end(frameSyslog(message)))
  // What it says is of no interest, but must be read to see the end.
  socket.resume()
  socket.once('end', () => resolve())
  socket.once('error', (error) => reject(new RetryableError(error.message)))
  socket.once('close', () => reject(new RetryableError('the log server closed the connection too early')))
  return promise.finally(() => {
    signal.removeEventListener('abort', abort)
    socket.destroy()
  })
}

/** Fulfils when the kernel has it. @throws RetryableError when there is no way, or the port is known to be closed */
export async function sendDatagram(
  message: Buffer,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<void> {
  const { address, family } = await lookup(host).catch((error: Error) => {
    throw new RetryableError(error.message)
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
  const fail = (error: Error) => reject(new RetryableError(error.message))
  socket.once('error', fail)
  socket.send(message, port, address, (error) => (error === null ? resolve() : fail(error)))
  await promise.finally(() => socket.close())
}

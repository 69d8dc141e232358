/** Puts the API on its sockets, of which there may be several, each with its own limits. */
import { chmod, chown, readFile, unlink } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import { connect, type Server as NetServer, type Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { type ApiConfig, isLoopback, type Listen, type TlsConfig } from '../../config/api.ts'
import { ConfigError } from '../../config-error.ts'
import { runProcess } from '../../kernel/process.ts'
import { forget, mark, type Origin } from '../access/origin.ts'
import type { Api } from '../route.ts'
import { answerMalformed } from './malformed.ts'

/** Milliseconds for a whole request to arrive: nobody holds a connection open by sending a byte now and then. */
const REQUEST_TIMEOUT = 60_000
const HEADERS_TIMEOUT = 20_000
const HANDSHAKE_TIMEOUT = 10_000
/** For which an idle connection stays: longer than usual proxies keep theirs, so that theirs never dies in use. */
const KEEP_ALIVE = 75_000
/** How often those times are looked at. */
const CHECK_INTERVAL = 5_000
const MAX_HEADER_SIZE = 16_384
const LIMITS = {
  requestTimeout: REQUEST_TIMEOUT,
  headersTimeout: HEADERS_TIMEOUT,
  keepAliveTimeout: KEEP_ALIVE,
  connectionsCheckingInterval: CHECK_INTERVAL,
  maxHeaderSize: MAX_HEADER_SIZE,
  // The API says so itself.
  requireHostHeader: false,
}
/** Of all connections that there may be, those that one address beyond loopback may have. */
const SHARE_OF_ONE = 0.25

export interface Listeners {
  /** Reads certificates and keys anew. @throws Error, and those from before stay in use */
  reload(): Promise<void>
  close(): void
  closeAllConnections(): void
}

/** @throws ConfigError when an address is taken or not to be had, or a certificate is of no use */
export async function listen(app: Api, addresses: readonly Listen[], config: ApiConfig): Promise<Listeners> {
  await app.ready()
  let secrets = config.tls === null ? null : await readSecrets(config.tls).catch(unusable)
  const servers: (Server | TlsServer)[] = []
  const tlsServers: TlsServer[] = []
  const overTls = new Set<Socket>()
  const close = () => {
    for (const server of servers) server.close()
  }
  try {
    for (const address of addresses) {
      const origin = originOf(address, config)
      const tlsServer = origin === 'tls' && secrets !== null ? openTls(secrets, app.routing) : null
      if (tlsServer !== null) tlsServers.push(tlsServer)
      tlsServer?.on('secureConnection', (socket) => {
        overTls.add(socket)
        socket.once('close', () => overTls.delete(socket))
      })
      const server = tlsServer ?? createServer(LIMITS, app.routing)
      server.on(tlsServer === null ? 'connection' : 'secureConnection', (socket) => mark(socket, origin))
      servers.push(server)
      bound(server, config.limits.connections)
      answerMalformed(server)
      await listenOne(server, address, config.socket)
    }
  } catch (error) {
    close()
    throw error
  }
  return {
    async reload() {
      if (config.tls === null) return
      const fresh = await readSecrets(config.tls)
      if (isDeepStrictEqual(fresh, secrets)) return
      for (const server of tlsServers) server.setSecureContext(fresh)
      secrets = fresh
      // Whoever is connected was let in by the old ones, and must come anew.
      for (const server of tlsServers) server.closeIdleConnections()
      for (const socket of overTls) forget(socket)
    },
    close,
    closeAllConnections() {
      for (const server of servers) server.closeAllConnections()
    },
  }
}

function originOf(address: Listen, { tls }: ApiConfig): Origin {
  if (address.kind === 'unix') return 'socket'
  return tls === null ? 'loopback' : 'tls'
}

/** What TLS is made with. Clients may come without a certificate, and then need a token. */
async function readSecrets({ certificate, key, clientCa, clientCrl }: TlsConfig) {
  const [cert, secret, ca, crl] = await Promise.all(
    [certificate, key, clientCa, clientCrl].map((path) => (path === null ? null : readFile(path, 'utf8'))),
  )
  const clients = ca === null ? {} : { ca, requestCert: true, rejectUnauthorized: false }
  const revoked = crl === null ? {} : { crl }
  return { cert: cert ?? '', key: secret ?? '', minVersion: 'TLSv1.2' as const, ...clients, ...revoked }
}

function openTls(secrets: Awaited<ReturnType<typeof readSecrets>>, answer: RequestListener): TlsServer {
  try {
    return createTlsServer({ ...LIMITS, ...secrets, handshakeTimeout: HANDSHAKE_TIMEOUT }, answer)
  } catch (error) {
    return unusable(error as Error)
  }
}

function unusable(error: Error): never {
  throw new ConfigError(`the certificate or key of api.tls cannot be used: ${error.message}`)
}

function bound(server: NetServer, connections: number): void {
  server.maxConnections = connections
  const most = Math.max(1, Math.floor(connections * SHARE_OF_ONE))
  const perAddress = new Map<string, number>()
  server.on('connection', (socket: Socket) => {
    const { remoteAddress: address = '' } = socket
    if (address === '' || isLoopback(address.replace(/^::ffff:/, ''))) return
    const open = (perAddress.get(address) ?? 0) + 1
    perAddress.set(address, open)
    socket.once('close', () => {
      const left = (perAddress.get(address) ?? 1) - 1
      if (left === 0) perAddress.delete(address)
      else perAddress.set(address, left)
    })
    if (open > most) socket.destroy()
  })
}

async function listenOne(
  server: NetServer,
  address: Listen,
  { mode, group }: ApiConfig['socket'],
): Promise<void> {
  const where = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`
  // A socket that a crash left behind; one that somebody listens on is refused below.
  if (address.kind === 'unix') await unlinkDeadSocket(address.path)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE' ? 'it is in use; is another egress25 running?' : error.message
      reject(new ConfigError(`cannot listen on ${where}: ${reason}`))
    })
    if (address.kind === 'unix') server.listen({ path: address.path }, resolve)
    else server.listen(address.port, address.host, resolve)
  })
  if (address.kind === 'tcp') return
  // Whoever can write to it is trusted: by default the service's own group, whatever the umask.
  try {
    if (group !== null) await chown(address.path, -1, await groupId(group))
    await chmod(address.path, mode)
  } catch (error) {
    throw new ConfigError(`cannot give ${where} its group and mode: ${(error as Error).message}`)
  }
}

/** @throws ConfigError when there is no such group */
async function groupId(name: string): Promise<number> {
  const { stdout } = await runProcess(['getent', 'group', name], { timeout: 10_000 })
  const id = stdout.split(':')[2]
  if (id === undefined) throw new ConfigError(`there is no group ${name}, which api.socket.group names`)
  return Number(id)
}

async function unlinkDeadSocket(path: string): Promise<void> {
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
  if (!alive) await unlink(path).catch(() => {})
}

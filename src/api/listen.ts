/** Puts the API on its sockets, of which there may be several. */
import { chmod, unlink } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { ConfigError, type Listen } from '../config.ts'

/** Milliseconds for a whole request to arrive: nobody holds a connection open by sending a byte now and then. */
const REQUEST_TIMEOUT = 60_000
/** For which an idle connection stays: longer than usual proxies keep theirs, so that theirs never dies in use. */
const KEEP_ALIVE = 75_000

/** @throws ConfigError when an address is taken or not to be had */
export async function listen(app: FastifyInstance, addresses: readonly Listen[]): Promise<Server[]> {
  await app.ready()
  const servers: Server[] = []
  try {
    for (const address of addresses) {
      const server = createServer((request, response) => app.routing(request, response))
      server.requestTimeout = REQUEST_TIMEOUT
      server.keepAliveTimeout = KEEP_ALIVE
      servers.push(server)
      await listenOne(server, address)
    }
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
  return servers
}

async function listenOne(server: Server, address: Listen): Promise<void> {
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
  // Whoever can write to it can change policies: the service's group, whatever the umask.
  if (address.kind === 'unix') await chmod(address.path, 0o660)
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

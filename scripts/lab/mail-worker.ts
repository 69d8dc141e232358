// Runs inside a namespace: real mail servers on all its addresses. See mail.ts for the other side.
import { readFileSync } from 'node:fs'
import { isIPv6, type Socket } from 'node:net'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { serve } from './worker.ts'

/** What a server is: one that takes mail for others on 25, or one that people hand theirs to with a password. */
export type Service = 'mail exchanger' | 'submission' | 'submission over TLS'

export interface MailServers {
  readonly services: readonly { readonly service: Service; readonly port: number }[]
  readonly user: string
  readonly password: string
  /** Files in PEM form. */
  readonly certificate: string
  readonly key: string
}

export interface Received {
  readonly connections: readonly {
    readonly from: string
    readonly to: string
    readonly port: number
    readonly open: boolean
    /** How much the client has sent, in bytes. */
    readonly bytes: number
  }[]
  readonly messages: readonly {
    readonly from: string
    readonly to: string
    readonly port: number
    readonly subject: string
    readonly encrypted: boolean
    /** Who gave a password, or null. */
    readonly user: string | null
  }[]
}

const connections: { from: string; to: string; port: number; socket: Socket }[] = []
const messages: Received['messages'][number][] = []

async function open(servers: MailServers): Promise<void> {
  const certificate = { cert: readFileSync(servers.certificate), key: readFileSync(servers.key) }
  await Promise.all(
    servers.services.flatMap(({ service, port }) =>
      ['0.0.0.0', '::'].map((host) => listen(host, port, options(service, port, servers, certificate))),
    ),
  )
}

function options(
  service: Service,
  port: number,
  servers: MailServers,
  certificate: { cert: Buffer; key: Buffer },
): SMTPServerOptions {
  const submission = service !== 'mail exchanger'
  return {
    ...certificate,
    name: submission ? 'submission.example.net' : 'mx.example.net',
    secure: service === 'submission over TLS',
    authOptional: !submission,
    disabledCommands: submission ? [] : ['STARTTLS', 'AUTH'],
    disableReverseLookup: true, // there is nobody to ask in here
    onAuth({ username, password }, _session, done) {
      if (username === servers.user && password === servers.password) done(null, { user: username })
      else done(new Error('wrong user or password'))
    },
    onData(stream, session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        messages.push({
          from: session.remoteAddress,
          to: session.localAddress,
          port,
          subject: /^subject: (.*?)\r?$/im.exec(text)?.[1] ?? '',
          encrypted: session.secure,
          user: session.user ?? null,
        })
        done(null) // the client hears of success only after we have noted it
      })
    },
  }
}

function listen(host: string, port: number, how: SMTPServerOptions): Promise<void> {
  const server = new SMTPServer(how)
  server.server.on('connection', (socket: Socket) => {
    const { remoteAddress: from = '', localAddress: to = '' } = socket
    connections.push({ from, to, port, socket })
  })
  return new Promise((resolve, reject) => {
    server.server.once('error', reject)
    server.on('error', () => {}) // one client's connection was cut, which is what this is about
    server.server.listen({ host, port, ipv6Only: isIPv6(host) }, resolve)
  })
}

function received(): Received {
  return {
    connections: connections.map(({ socket, ...rest }) => ({
      ...rest,
      open: !socket.destroyed,
      bytes: socket.bytesRead,
    })),
    messages,
  }
}

const handlers = { open, received }
export type MailHandlers = typeof handlers
serve(handlers)

/** Sends messages to a log server: RFC 5424, with structured data or as CEF, over TCP, TLS (RFC 5425) or UDP (RFC 5426). */
import { isIP } from 'node:net'
import { Type } from 'typebox'
import { channelType } from '../channel.ts'
import { FACILITIES, type Facility, formatSyslog } from '../formats/syslog.ts'
import { syslogContent } from '../formats/syslog-content.ts'
import { sendDatagram, sendOverStream } from '../transport/syslog-transport.ts'

const TRANSPORTS = ['tcp', 'tls', 'udp'] as const
const PORTS = { tcp: 601, tls: 6514, udp: 514 } as const

/** RFC 5424 §6.1: receivers should take 2,048 bytes; those for streams usually take 8,192 (RFC 5425 §4.3.1). */
const STREAM_LIMIT = 8_192
/** What one IPv6 packet carries over any link (RFC 8200 §5), without its headers: a fragment that is lost loses all. */
const DATAGRAM_LIMIT = 1_232

export const syslog = channelType({
  type: 'syslog',
  fields: {
    host: Type.String({ format: 'text', minLength: 1, maxLength: 253 }),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
    transport: Type.Optional(Type.Enum([...TRANSPORTS])),
    format: Type.Optional(Type.Enum(['structured', 'cef'])),
    facility: Type.Optional(Type.Enum(Object.keys(FACILITIES) as Facility[])),
    enterprise: Type.Optional(Type.Integer({ minimum: 1, maximum: 4_294_967_295 })),
    ca_file: Type.Optional(Type.String({ format: 'absolute-path', minLength: 1, maxLength: 500 })),
    server_name: Type.Optional(Type.String({ format: 'text', minLength: 1, maxLength: 253 })),
  },
  // A log has room for every message, and nobody is woken by it.
  defaults: { limit: 'none', remind: '24h' },
  fault({ port, transport = 'tls', ca_file, server_name }) {
    if (port === 25) return 'port 25 is for mail between servers, and what egress25 keeps closed'
    if (transport !== 'tls' && (ca_file !== undefined || server_name !== undefined))
      return `ca_file and server_name are for the transport tls, not ${transport}`
    if (server_name !== undefined && isIP(server_name) > 0)
      return 'server_name is a name; a certificate for an address is held against the host'
    return null
  },
  async open(config, { gateway, readSecret }) {
    const { name, host, transport = 'tls', format = 'structured', facility = 'daemon', enterprise } = config
    const to = { host, port: config.port ?? PORTS[transport] }
    const ca = config.ca_file === undefined ? undefined : await readSecret(config.ca_file)
    const tls = transport === 'tls' ? { ca, serverName: config.server_name ?? host } : null
    return {
      name,
      type: 'syslog',
      async deliver(message, signal) {
        const content = syslogContent(message, { format, enterprise: enterprise ?? DOCUMENTATION })
        const bytes = formatSyslog(
          { ...content, facility, time: message.time, host: gateway, process: String(process.pid) },
          transport === 'udp' ? DATAGRAM_LIMIT : STREAM_LIMIT,
        )
        if (transport === 'udp') await sendDatagram(bytes, to)
        else await sendOverStream(bytes, { ...to, tls }, signal)
      },
    }
  },
})

/** The enterprise number that RFC 5612 keeps for examples; there is none of our own. */
const DOCUMENTATION = 32_473

/** `api`: where the API listens, and who may do what there. */
import { isIP } from 'node:net'
import { join } from 'node:path'
import { type Static, Type } from 'typebox'
import { ROLES, type Role } from '../caller.ts'
import type { Problem } from '../policy/diagnostic.ts'
import { type Fault, quote } from '../policy/formats.ts'

export type Listen =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

/** Whose certificate it is, by one of its names: `CN=noc`, `DNS:noc.example.net`, `URI:…` or `email:…`. */
export interface ClientCertificate {
  readonly certificate: string
  readonly name: string
  readonly role: Role
}

export interface TlsConfig {
  /** Files in PEM; read at start and on SIGHUP. */
  readonly certificate: string
  readonly key: string
  /** Signs the certificates of clients; null: clients have none. */
  readonly clientCa: string | null
  /** Which of them are no longer good (RFC 5280 §5); null: all that have not expired are. */
  readonly clientCrl: string | null
  readonly clients: readonly ClientCertificate[]
}

export interface ApiConfig {
  readonly listen: readonly Listen[]
  readonly tls: TlsConfig | null
  /** What local users may do without a token over loopback; `auto`: everything, while there is no token and no TLS. */
  readonly loopbackRole: Role | 'none' | 'auto'
  readonly socket: { readonly role: Role | 'none'; readonly mode: number; readonly group: string | null }
  /** Requests a minute of one caller, and failed logins a minute of one address. */
  readonly limits: { readonly requests: number; readonly failedLogins: number; readonly connections: number }
}

const object = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Object(properties, { additionalProperties: false })
const text = (format: string, maxLength = 500) => Type.String({ format, minLength: 1, maxLength })
const role = Type.Enum([...ROLES])
const roleOrNone = Type.Enum([...ROLES, 'none'])
const count = Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 }))

export const ApiSchema = Type.Optional(
  object({
    listen: Type.Optional(Type.Array(text('listen'), { minItems: 1, maxItems: 16 })),
    tls: Type.Optional(
      object({
        certificate: text('absolute-path'),
        key: text('absolute-path'),
        client_ca: Type.Optional(text('absolute-path')),
        client_crl: Type.Optional(text('absolute-path')),
        clients: Type.Optional(
          Type.Array(object({ certificate: text('certificate-name'), name: text('name', 48), role }), {
            minItems: 1,
            maxItems: 1_000,
          }),
        ),
      }),
    ),
    loopback_role: Type.Optional(roleOrNone),
    socket: Type.Optional(
      object({
        role: Type.Optional(roleOrNone),
        mode: Type.Optional(text('file-mode', 4)),
        group: Type.Optional(text('user', 32)),
      }),
    ),
    limits: Type.Optional(object({ requests: count, failed_logins: count, connections: count })),
  }),
)
type Written = NonNullable<Static<typeof ApiSchema>>

export const API_FORMATS = {
  listen: (value: string) =>
    fault(parseListen(value) !== null, `${quote(value)} is neither ADDRESS:PORT nor unix:/PATH`),
  'certificate-name': (value: string) =>
    fault(
      /^(CN=|DNS:|URI:|email:)./.test(value),
      `${quote(value)} is none of CN=NAME, DNS:NAME, URI:NAME and email:ADDRESS`,
    ),
  'file-mode': (value: string) =>
    fault(/^0?[0-7]{3}$/.test(value), `${quote(value)} is no mode of a file, such as "0660"`),
}

/** What only shows when settings are held against each other. */
export function apiProblems({ listen = [], tls }: Written): Problem[] {
  const problems: Problem[] = []
  for (const [index, value] of listen.entries()) {
    const parsed = parseListen(value)
    if (tls !== undefined || parsed === null || parsed.kind === 'unix' || isLoopback(parsed.host)) continue
    problems.push({
      pointer: `/listen/${index}`,
      code: 'bad-value',
      message: `${quote(value)} is beyond loopback, which needs TLS and tokens: set api.tls, or listen on 127.0.0.1 or unix:`,
    })
  }
  for (const key of ['clients', 'client_crl'] as const) {
    if (tls?.[key] === undefined || tls.client_ca !== undefined) continue
    problems.push({
      pointer: `/tls/${key}`,
      code: 'missing-key',
      message: `${key} needs client_ca: who signs the certificates of clients`,
    })
  }
  return problems
}

/** Of a section without problems. */
export function buildApi({ listen, tls, loopback_role, socket, limits }: Written = {}): ApiConfig {
  return {
    listen: (listen ?? ['127.0.0.1:7025']).flatMap((value) => parseListen(value) ?? []),
    tls:
      tls === undefined
        ? null
        : {
            certificate: tls.certificate,
            key: tls.key,
            clientCa: tls.client_ca ?? null,
            clientCrl: tls.client_crl ?? null,
            clients: (tls.clients ?? []) as ClientCertificate[],
          },
    loopbackRole: (loopback_role as Role | 'none' | undefined) ?? 'auto',
    socket: {
      role: (socket?.role as Role | 'none' | undefined) ?? 'admin',
      mode: Number.parseInt(socket?.mode ?? '0660', 8),
      group: socket?.group ?? null,
    },
    limits: {
      requests: limits?.requests ?? 1_200,
      failedLogins: limits?.failed_logins ?? 10,
      connections: limits?.connections ?? 512,
    },
  }
}

/** Longer paths do not fit into an address of a socket, with its closing zero (unix(7)). */
const LONGEST_SOCKET_PATH = 107

/** The command reaches the service by a socket: whoever may read the state may use it, by the permissions of files. */
export function withSocket(listen: readonly Listen[], stateDirectory: string): Listen[] {
  const path = join(stateDirectory, 'api.sock')
  const hasOne = listen.some(({ kind }) => kind === 'unix')
  if (hasOne || Buffer.byteLength(path) > LONGEST_SOCKET_PATH) return [...listen]
  return [...listen, { kind: 'unix', path }]
}

function parseListen(value: string): Listen | null {
  if (value.startsWith('unix:/')) return { kind: 'unix', path: value.slice('unix:'.length) }
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  return isIP(host) > 0 && port > 0 && port < 65_536 ? { kind: 'tcp', host, port } : null
}

export function isLoopback(host: string): boolean {
  return host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function fault(isFine: boolean, message: string): Fault | null {
  return isFine ? null : { code: 'bad-value', message }
}

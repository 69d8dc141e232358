/** Every request is somebody's before anything of it is read: by a token, a certificate, or where it came from. */
import type { IncomingMessage } from 'node:http'
import type { Role } from '../../caller.ts'
import { type ApiConfig, isLoopback } from '../../config/api.ts'
import { isInForce, type Token, type TokenStore } from '../../store/tokens.ts'
import { hostOf } from '../http/host.ts'
import { ApiError } from '../http/problem.ts'
import { holderOf } from './certificates.ts'
import { type Origin, originOf, tlsSocketOf } from './origin.ts'

/** How somebody became known. */
export interface Identity {
  readonly name: string
  readonly role: Role
  readonly by: 'token' | 'certificate' | 'place'
  /** Of the token. */
  readonly tokenId: string | null
}

export interface Authentication {
  readonly tokens: Pick<TokenStore, 'find' | 'get' | 'everMade'>
  readonly config: Pick<ApiConfig, 'loopbackRole' | 'socket' | 'tls'>
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** What a local user calls itself over the socket, which only users that are trusted can reach. */
const LOCAL_USER = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,47}$/

/** @throws ApiError when nobody is known */
export function identify(request: IncomingMessage, { tokens, config, now }: Authentication): Identity {
  const { authorization } = request.headers
  // A wrong token is never made good by where it came from.
  if (authorization !== undefined) return byToken(authorization, tokens, now())
  const origin = originOf(request)
  if (origin === null)
    throw new ApiError(
      'unauthenticated',
      'the certificates were read anew since you connected: connect again',
    )
  if (origin === 'tls') return byCertificate(request, config)
  const role = roleOfPlace(origin, config, tokens.everMade)
  if (role === 'none') throw new ApiError('unauthenticated', 'this needs a token: Authorization: Bearer …')
  mustNotBeABrowsersDoing(request, origin)
  if (origin !== 'socket') return { name: 'loopback', role, by: 'place', tokenId: null }
  const user = request.headers['x-egress25-user']
  const name = typeof user === 'string' && LOCAL_USER.test(user) ? user : 'local'
  return { name, role, by: 'place', tokenId: null }
}

/** Whether somebody who was known still is: of a stream that lasts. */
export function isStill(
  { by, tokenId }: Identity,
  request: IncomingMessage,
  { tokens, now }: Authentication,
): boolean {
  if (by === 'certificate') return originOf(request) !== null
  if (tokenId === null) return true
  const token = tokens.get(tokenId)
  return token !== null && isInForce(token, now())
}

/** What may be done without a token or a certificate. */
export function roleOfPlace(
  origin: Origin | null,
  { loopbackRole, socket, tls }: Authentication['config'],
  tokensEverMade: boolean,
): Role | 'none' {
  if (origin === 'socket') return socket.role
  if (origin !== 'loopback') return 'none'
  if (loopbackRole !== 'auto') return loopbackRole
  return tls === null && !tokensEverMade ? 'admin' : 'none'
}

function byToken(authorization: string, tokens: Authentication['tokens'], now: number): Identity {
  const secret = /^Bearer +([^\s]{1,200})$/i.exec(authorization)?.[1] ?? ''
  const token: Token | null = tokens.find(secret, now)
  if (token === null)
    throw new ApiError('unauthenticated', 'the token is none of ours, or it is no longer in force')
  return { name: token.name, role: token.role, by: 'token', tokenId: token.id }
}

function byCertificate(request: IncomingMessage, { tls }: Authentication['config']): Identity {
  const socket = tlsSocketOf(request)
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined)
    throw new ApiError('unauthenticated', 'this needs a token, or a certificate that is known here')
  // Of whom it is not known who signed it, nothing else is of interest.
  if (!socket.authorized)
    throw new ApiError('unauthenticated', `the certificate is not valid here: ${socket.authorizationError}`)
  const holder = holderOf(certificate, tls?.clients ?? [])
  if (holder === null) throw new ApiError('unauthenticated', 'api.tls.clients does not name this certificate')
  mustNotBeABrowsersDoing(request, 'tls')
  return { name: holder.name, role: holder.role, by: 'certificate', tokenId: null }
}

/**
 * A page of somebody else's, open in a browser on this machine, can send requests here, and with a name that resolves to
 * 127.0.0.1 also read the answers. Tokens are not sent that way; whatever identifies the browser itself would be.
 */
function mustNotBeABrowsersDoing(request: IncomingMessage, origin: Origin | null): void {
  const { headers } = request
  const host = hostOf(request)
  const { origin: page } = headers
  const site = headers['sec-fetch-site']
  const isForeign =
    (page !== undefined && page !== `http://${host}` && page !== `https://${host}`) ||
    (site !== undefined && site !== 'same-origin' && site !== 'none')
  if (isForeign) throw new ApiError('forbidden', 'a page of another site asks; only its own pages may')
  if (origin === 'loopback' && !isOfLoopback(host))
    throw new ApiError(
      'forbidden',
      `${host || 'no Host'} is no name of this machine's loopback: use 127.0.0.1 or localhost`,
    )
}

/** `Host` headers that were found to name the loopback: clients say the same again and again. */
const hostsOfLoopback = new Set<string>()
const MOST_HOSTS = 64

function isOfLoopback(host: string): boolean {
  if (hostsOfLoopback.has(host)) return true
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  if (name !== 'localhost' && !isLoopback(name)) return false
  if (hostsOfLoopback.size < MOST_HOSTS) hostsOfLoopback.add(host)
  return true
}

/** Lets a request in when its caller may use the route: who is that, may they, and not too often. */
import rateLimit from '@fastify/rate-limit'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Caller } from '../../caller.ts'
import type { ApiConfig } from '../../config/api.ts'
import { formatPrefix, parseAddress, truncate } from '../../policy/prefix.ts'
import { ApiError } from '../http/problem.ts'
import type { Api } from '../route.ts'
import { type Authentication, type Identity, identify } from './authenticate.ts'
import { may } from './roles.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks. Of public routes nobody is asked for. */
    readonly caller: Caller
    /** null: nobody is known. */
    identity: Identity | null
    /** It is one of many refusals, and is not told of again. */
    isRepeated: boolean
  }
}

const NOBODY = { name: 'anonymous', role: 'viewer' } as const
const MINUTE = 60_000

/** An address, or the /64 of one; there is none over the socket. */
function placeOf(ip: string | undefined): string {
  const address = parseAddress((ip ?? '').replace(/^::ffff:/, ''))
  if (address === null) return 'socket'
  return formatPrefix(address.family === 6 ? truncate(address, 64) : address)
}

/** To be called before there are routes: one that does not say who may use it is a mistake. */
export async function guard(
  app: Api,
  authentication: Authentication,
  { requests, failedLogins }: Pick<ApiConfig['limits'], 'requests' | 'failedLogins'>,
): Promise<void> {
  await app.register(rateLimit, { global: false, cache: 10_000 })
  const countRequest = app.createRateLimit({
    max: requests,
    timeWindow: MINUTE,
    keyGenerator: ({ identity }) => `${identity?.by} ${identity?.name}`,
  })
  // One subscriber is one /64.
  const countFailure = app.createRateLimit({
    max: failedLogins,
    timeWindow: MINUTE,
    keyGenerator: ({ ip }) => placeOf(ip),
  })

  app.addHook('onRoute', ({ url, config }) => {
    if (config?.access === undefined) throw new Error(`${url} does not say who may use it`)
  })
  app.decorateRequest('identity', null)
  app.decorateRequest('caller', {
    getter() {
      const { name, role } = this.identity ?? NOBODY
      return { name, role, requestId: this.id }
    },
  })
  app.decorateRequest('isRepeated', false)
  app.addHook('onRequest', (request, reply, done) => {
    const { access = 'public' } = request.routeOptions.config
    if (access === 'public') return done()
    try {
      request.identity = identify(request.raw, authentication)
    } catch (error) {
      refuse(request, reply, error as Error).then(done, done)
      return
    }
    const { name, role, by } = request.identity
    const refusal = may(role, access)
      ? undefined
      : new ApiError('forbidden', `${name} has the role ${role}, and this needs ${access}`)
    // Whoever is let in for where it comes from could do without the API.
    if (by === 'place') return done(refusal)
    limit(request, reply).then((exceeded) => done(exceeded ?? refusal), done)
  })

  async function limit(request: FastifyRequest, reply: FastifyReply): Promise<ApiError | undefined> {
    const count = await countRequest(request)
    if (count.isAllowed || !count.isExceeded) return undefined
    request.isRepeated = true
    reply.header('retry-after', count.ttlInSeconds)
    return new ApiError(
      'too-many-requests',
      `${request.caller.name} asks more than ${requests} times a minute`,
    )
  }

  /** Right tokens are never refused for the wrong ones of others: secrets cannot be guessed, so that there is no need. */
  async function refuse(request: FastifyRequest, reply: FastifyReply, error: Error): Promise<Error> {
    if (!(error instanceof ApiError) || error.code !== 'unauthenticated') return error
    reply.header('www-authenticate', 'Bearer')
    const count = await countFailure(request)
    if (count.isAllowed || !count.isExceeded) return error
    request.isRepeated = true
    reply.header('retry-after', count.ttlInSeconds)
    return new ApiError('too-many-requests', 'too many failed logins; wait a little')
  }
}

/** What is answered where no route is: 404, or 405 with the methods that there are, and 204 to OPTIONS. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Api } from '../route.ts'
import { ApiError, sendProblem } from './problem.ts'

/** To be called before there are routes. */
export function answerOtherMethods(app: Api): void {
  const routes = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>()
  app.addHook('onRoute', ({ url, method }) => {
    const known = routes.get(url) ?? { pattern: patternOf(url), methods: new Set(['OPTIONS']) }
    for (const one of [method].flat()) known.methods.add(one)
    routes.set(url, known)
  })
  app.setNotFoundHandler((request: FastifyRequest, reply: FastifyReply) => {
    const { method, url } = request
    const path = url.split('?')[0] ?? ''
    // The server as a whole (RFC 9110 §9.3.7).
    if (method === 'OPTIONS' && path === '*') return reply.code(204).send()
    const methods = [...routes.values()].find(({ pattern }) => pattern.test(path))?.methods
    if (methods === undefined) return sendProblem(reply, new ApiError('not-found', `there is no ${path}`))
    reply.header('allow', [...methods].sort().join(', '))
    if (method === 'OPTIONS') return reply.code(204).send()
    return sendProblem(reply, new ApiError('method-not-allowed', `${method} is nothing that ${path} takes`))
  })
}

/** A path with parameters as an expression for paths with values. */
function patternOf(url: string): RegExp {
  const source = url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/:[a-z_]+/gi, '[^/]+')
  return new RegExp(`^${source}$`)
}

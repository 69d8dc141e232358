/** What every answer tells browsers not to do with it. Worked out once by helmet: for each request it would cost more than the rest. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import helmet, { type HelmetOptions } from 'helmet'
import type { Api } from './route.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the answers of a route may do in a browser; nothing when absent. */
    readonly contentSecurityPolicy?: HelmetOptions['contentSecurityPolicy']
  }
}

type Headers = readonly (readonly [string, string])[]

/** Nothing that the API answers is meant to be rendered. */
const NOTHING = { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } }
/** Those that browsers heed for pages alone, that say what the policy above says, and for programs that there are no more. */
const OF_PAGES = {
  crossOriginOpenerPolicy: false,
  originAgentCluster: false,
  xDnsPrefetchControl: false,
  xDownloadOptions: false,
  xFrameOptions: false,
  xPermittedCrossDomainPolicies: false,
  xXssProtection: false,
} as const
/** Of Strict-Transport-Security, in seconds. */
const YEAR = 31_536_000

/** To be called before there are routes. Each answer has the id of its request, too. */
export function secureHeaders(app: Api, { overTls }: { readonly overTls: boolean }): void {
  const strictTransportSecurity = overTls ? { maxAge: YEAR, includeSubDomains: false } : (false as const)
  const usual = headersOf({ ...OF_PAGES, contentSecurityPolicy: NOTHING, strictTransportSecurity })
  const others = new Map<unknown, Headers>()
  app.addHook('onRoute', ({ config }) => {
    const { contentSecurityPolicy } = config ?? {}
    if (contentSecurityPolicy === undefined) return
    others.set(contentSecurityPolicy, headersOf({ contentSecurityPolicy, strictTransportSecurity }))
  })
  app.addHook('onRequest', (request, reply, done) => {
    const { contentSecurityPolicy } = request.routeOptions.config
    const headers = contentSecurityPolicy === undefined ? usual : (others.get(contentSecurityPolicy) ?? usual)
    for (const [name, value] of headers) reply.header(name, value)
    reply.header('x-request-id', request.id)
    done()
  })
}

function headersOf(options: HelmetOptions): Headers {
  const request = new IncomingMessage(new Socket())
  const response = new ServerResponse(request)
  helmet(options)(request, response, (error) => {
    if (error !== undefined) throw error
  })
  return Object.entries(response.getHeaders()).map(([name, value]) => [name, String(value)])
}

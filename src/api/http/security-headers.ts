/** What every answer tells browsers not to do with it. Worked out once by helmet: for each request it would cost more than the rest. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import helmet, { type HelmetOptions } from 'helmet'
import type { Api } from '../route.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the answers of a route may do in a browser; nothing when absent. */
    readonly contentSecurityPolicy?: HelmetOptions['contentSecurityPolicy']
  }
  interface FastifyReply {
    /**
     * For what is written past Fastify, which does nothing more about it: writes the head, status 200, with these headers
     * (names and values in turn) and those that every answer has.
     */
    takeOver(headers: readonly string[]): ServerResponse
  }
}

/** Names and values in turn. */
type Headers = readonly string[]

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
  const headersFor = ({ id, routeOptions }: FastifyRequest): string[] => {
    const { contentSecurityPolicy } = routeOptions.config
    const headers = contentSecurityPolicy === undefined ? usual : (others.get(contentSecurityPolicy) ?? usual)
    return [...headers, 'x-request-id', id]
  }
  app.addHook('onSend', (request, reply, payload, done) => {
    const headers = headersFor(request)
    for (let at = 0; at < headers.length; at += 2) reply.header(headers[at] ?? '', headers[at + 1])
    done(null, payload)
  })
  app.decorateReply('takeOver', function (headers) {
    const all = headersFor(this.request)
    all.push(...headers)
    this.hijack()
    return this.raw.writeHead(200, all)
  })
}

function headersOf(options: HelmetOptions): Headers {
  const request = new IncomingMessage(new Socket())
  const response = new ServerResponse(request)
  helmet(options)(request, response, (error) => {
    if (error !== undefined) throw error
  })
  return Object.entries(response.getHeaders()).flatMap(([name, value]) => [name, String(value)])
}

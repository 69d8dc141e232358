/** Which host a request is for (RFC 9112 §3.2). */
import type { IncomingMessage } from 'node:http'
import type { Api } from '../route.ts'
import { ApiError } from './problem.ts'

/** A request names one host; before HTTP/1.1 it may name none. */
export function mustNameHost(app: Api): void {
  app.addHook('onRequest', ({ raw }, _, done) => {
    const named = countHosts(raw)
    if (named === 1 || (named === 0 && raw.httpVersion === '1.0')) return done()
    done(
      new ApiError(
        'bad-request',
        named === 0 ? 'the request names no Host' : 'the request names several Hosts',
      ),
    )
  })
}

/** Of a target as proxies get them (`GET http://…`), the host in there counts; empty where none is named. */
export function hostOf({ url = '', headers }: IncomingMessage): string {
  return url.startsWith('/') ? (headers.host ?? '') : (URL.parse(url)?.host ?? '')
}

function countHosts({ rawHeaders }: IncomingMessage): number {
  let count = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? ''
    if (name.length === 4 && name.toLowerCase() === 'host') count++
  }
  return count
}

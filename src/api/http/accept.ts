/** 406 for whoever would not take what a route answers (RFC 9110 §12.5.1). */
import type { FastifySchema } from 'fastify'
import type { Api } from '../route.ts'
import { ApiError } from './problem.ts'

const JSON_ALONE = ['application/json']

export function checkAccept(app: Api): void {
  app.addHook('preValidation', (request, _, done) => {
    const { accept = '*/*' } = request.headers
    if (accept === '*/*') return done()
    const types = typesOf(request.routeOptions.schema)
    if (types === JSON_ALONE && takesJson(accept)) return done()
    if (types.some((type) => accepts(accept, type))) return done()
    done(new ApiError('not-acceptable', `this is ${types.join(' or ')}, which Accept leaves out`))
  })
}

/** Whether that is plain without a closer look. */
export function takesJson(accept: string): boolean {
  return accept === '*/*' || accept === 'application/json' || accept.startsWith('application/json,')
}

function typesOf(schema: FastifySchema | undefined): readonly string[] {
  const { content } = ((schema?.response as Record<string, unknown> | undefined)?.['200'] ?? {}) as {
    content?: object
  }
  return content === undefined ? JSON_ALONE : Object.keys(content)
}

/** Whether the narrowest range that covers the type has a weight above 0. */
export function accepts(header: string, type: string): boolean {
  const [family = ''] = type.split('/')
  const ranges = [type, `${family}/*`, '*/*']
  let [narrowest, weight] = [ranges.length, 0]
  for (const part of header.toLowerCase().split(',')) {
    const [range = '', ...parameters] = part.split(';').map((one) => one.trim())
    const rank = ranges.indexOf(range)
    if (rank === -1 || rank >= narrowest) continue
    narrowest = rank
    const q = parameters.find((one) => one.startsWith('q='))
    weight = q === undefined ? 1 : Number(q.slice(2))
  }
  return weight > 0
}

/** Bodies as JSON or YAML, read strictly: what would silently be lost or mended is a mistake. */
import type { FastifyRequest } from 'fastify'
import { YAML_LIMITS } from '../../policy/bounded-yaml.ts'
import { diagnostic } from '../../policy/diagnostic.ts'
import { parseYaml } from '../../policy/yaml-source.ts'
import type { Api } from '../route.ts'
import { hookChanges, isReading } from './change-hooks.ts'
import { ApiError } from './problem.ts'

export function readBodies(app: Api): void {
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, bytes: Buffer) => readJson(decode(request, bytes)),
  )
  app.addContentTypeParser<Buffer>(
    ['application/yaml', 'application/x-yaml', 'text/yaml'],
    { parseAs: 'buffer' },
    async (request: FastifyRequest, bytes: Buffer) => readYaml(decode(request, bytes)),
  )
  // A body that nobody reads is one that somebody meant.
  app.addHook('onRequest', ({ method, headers }, _, done) => {
    const { 'content-length': length = '0', 'transfer-encoding': encoding } = headers
    if ((length === '0' && encoding === undefined) || !isReading(method)) return done()
    done(new ApiError('bad-request', `${method} takes no body`))
  })
  hookChanges(app, {
    preValidation: async ({ body, routeOptions: { schema, config } }) => {
      if (body === undefined || body === null || schema?.body !== undefined || config.body !== undefined)
        return
      if (typeof body === 'object' && Object.keys(body).length === 0) return
      throw new ApiError('bad-request', 'this takes no body', {
        errors: [{ pointer: '', code: 'unknown-key', message: 'this takes no body' }],
      })
    },
  })
}

const UTF_8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Text in UTF-8, as it is in JSON (RFC 8259 §8.1) and in policy files: read as anything else, it would be another text.
 * @throws ApiError
 */
function decode({ headers }: FastifyRequest, bytes: Buffer): string {
  const { 'content-type': type = '', 'content-encoding': encoding = 'identity' } = headers
  if (encoding.toLowerCase() !== 'identity')
    throw new ApiError('unsupported-media-type', `the body has the encoding ${encoding}; send it without one`)
  const [, charset = 'utf-8'] = /;\s*charset="?([^";\s]*)/i.exec(type) ?? []
  if (!/^(utf-?8|us-ascii)$/i.test(charset))
    throw new ApiError('unsupported-media-type', `the body has the charset ${charset}; send it in UTF-8`)
  try {
    return UTF_8.decode(bytes)
  } catch {
    throw new ApiError('bad-request', 'the body is not UTF-8')
  }
}

/** @throws ApiError */
function readJson(text: string): unknown {
  // Many clients say what they would send also when they send nothing.
  if (text === '') return undefined
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new ApiError('bad-request', `the body is not JSON: ${(error as Error).message}`)
  }
  if (countKeys(value) !== countWrittenKeys(text)) {
    // JSON is YAML, and there it is known where things stand.
    const { diagnostics } = parseYaml('body', text)
    throw new ApiError('bad-request', 'an object in the body has the same key twice', { diagnostics })
  }
  return value
}

/** Nothing, where there is nothing but comments. @throws ApiError */
function readYaml(text: string): unknown {
  const { documents, diagnostics } = parseYaml('body', text)
  const [document, second] = documents
  if (diagnostics.length > 0) throw new ApiError('bad-request', 'the body is not YAML', { diagnostics })
  if (second === undefined) return document?.value
  const message = 'another document begins here, and there can be one'
  throw new ApiError('bad-request', 'the body has more than one YAML document', {
    diagnostics: [diagnostic(second.origin, 'not-a-document', message)],
  })
}

/** Of all objects in a value. @throws ApiError when it nests deeper than a YAML document may */
function countKeys(value: unknown, depth = 0): number {
  if (typeof value !== 'object' || value === null) return 0
  if (depth >= YAML_LIMITS.depth)
    throw new ApiError('bad-request', `the body nests deeper than ${YAML_LIMITS.depth}`)
  const parts = Object.values(value)
  const own = Array.isArray(value) ? 0 : parts.length
  return parts.reduce((sum: number, part) => sum + countKeys(part, depth + 1), own)
}

/** In text that is known to be JSON: the strings before a colon. */
function countWrittenKeys(text: string): number {
  let keys = 0
  for (const [, colon] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)) if (colon !== undefined) keys++
  return keys
}

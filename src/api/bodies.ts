/** Bodies as JSON or YAML, read strictly: what would silently be lost or mended is a mistake. */
import type { FastifyRequest } from 'fastify'
import { parseYaml } from '../policy/yaml-source.ts'
import { hookChanges } from './change-hooks.ts'
import { ApiError } from './problem.ts'
import type { Api } from './route.ts'

export function readBodies(app: Api): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    // Many clients say what they would send also when they send nothing.
    if (bytes.length === 0) return done(null, undefined)
    const text = decode(request, bytes)
    if (text instanceof ApiError) return done(text)
    parseJson(request, text, (error, value) => {
      if (error) return done(new ApiError('bad-request', `the body is not JSON: ${error.message}`))
      if (countKeys(value) !== countWrittenKeys(text))
        return done(new ApiError('bad-request', 'an object in the body has the same key twice'))
      done(null, value)
    })
  })
  app.addContentTypeParser<Buffer>(
    ['application/yaml', 'application/x-yaml', 'text/yaml'],
    { parseAs: 'buffer' },
    async (request: FastifyRequest, bytes: Buffer) => {
      const text = decode(request, bytes)
      if (text instanceof ApiError) throw text
      return readYaml(text)
    },
  )
  // A body that nobody reads is one that somebody meant.
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

/** Text in UTF-8, as it is in JSON (RFC 8259 §8.1) and in policy files: read as anything else, it would be another text. */
function decode({ headers }: FastifyRequest, bytes: Buffer): string | ApiError {
  const { 'content-type': type = '', 'content-encoding': encoding = 'identity' } = headers
  if (encoding.toLowerCase() !== 'identity')
    return new ApiError(
      'unsupported-media-type',
      `the body has the encoding ${encoding}; send it without one`,
    )
  const [, charset = 'utf-8'] = /;\s*charset="?([^";\s]*)/i.exec(type) ?? []
  if (!/^(utf-?8|us-ascii)$/i.test(charset))
    return new ApiError('unsupported-media-type', `the body has the charset ${charset}; send it in UTF-8`)
  try {
    return UTF_8.decode(bytes)
  } catch {
    return new ApiError('bad-request', 'the body is not UTF-8')
  }
}

function readYaml(text: string): unknown {
  const { documents, diagnostics } = parseYaml('body', text)
  const [document, second] = documents
  if (diagnostics.length > 0 || document === undefined || second !== undefined) {
    throw new ApiError('bad-request', 'the body is not one YAML document', { diagnostics })
  }
  return document.value
}

/** Of all objects in a value. */
function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const parts = Object.values(value)
  return parts.reduce((sum: number, part) => sum + countKeys(part), Array.isArray(value) ? 0 : parts.length)
}

/** In text that is known to be JSON: the strings before a colon. */
function countWrittenKeys(text: string): number {
  let keys = 0
  for (const [, colon] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)) if (colon !== undefined) keys++
  return keys
}

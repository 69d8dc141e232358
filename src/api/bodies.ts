/** Bodies as JSON or YAML, read strictly: what would silently be lost or mended is a mistake. */
import type { FastifyRequest } from 'fastify'
import { parseYaml } from '../policy/yaml-source.ts'
import { hookChanges } from './change-hooks.ts'
import { ApiError } from './problem.ts'
import type { Api } from './route.ts'

export function readBodies(app: Api): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, text, done) => {
    // Many clients say what they would send also when they send nothing.
    if (text === '') return done(null, undefined)
    parseJson(request, text, (error, value) => {
      if (error) return done(new ApiError('bad-request', `the body is not JSON: ${error.message}`))
      if (countKeys(value) !== countWrittenKeys(text))
        return done(new ApiError('bad-request', 'an object in the body has the same key twice'))
      done(null, value)
    })
  })
  app.addContentTypeParser<string>(
    ['application/yaml', 'application/x-yaml', 'text/yaml'],
    { parseAs: 'string' },
    async (_: FastifyRequest, text: string) => readYaml(text),
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

/** The control API as a Fastify instance, apart from any socket. */
import helmet from '@fastify/helmet'
import { type FastifyBaseLogger, fastify, LogController } from 'fastify'
import { parseYaml } from '../policy/yaml-source.ts'
import { applyRoutes } from './apply.ts'
import { attemptRoutes } from './attempts.ts'
import type { Context } from './context.ts'
import { documentRoutes } from './documents.ts'
import { toApiError } from './errors.ts'
import { eventRoutes } from './events.ts'
import { exemptionRequestRoutes } from './exemption-requests.ts'
import { explainRoutes } from './explain.ts'
import { identify, requestId } from './identify.ts'
import { incidentRoutes } from './incidents.ts'
import { describe } from './openapi.ts'
import { ApiError, sendProblem } from './problem.ts'
import { type Api, addRoutes, type Routes, type TypeBoxProvider } from './route.ts'
import { sourceRoutes } from './sources.ts'
import { statusRoutes } from './status.ts'

const BODY_LIMIT = 1024 * 1024

export async function createApp(context: Context, logger: FastifyBaseLogger): Promise<Api> {
  const app = fastify({
    loggerInstance: logger,
    bodyLimit: BODY_LIMIT,
    // A mistyped field must be an error, not something that is quietly mended or dropped.
    ajv: {
      customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: true },
    },
    routerOptions: { maxParamLength: 200 },
    genReqId: requestId,
    // Scrapes and health checks would drown everything else; what changes something is logged below.
    logController: new LogController({ disableRequestLogging: true }),
  }).withTypeProvider<TypeBoxProvider>()
  // As the handlers say: a serialiser made from a schema would drop what that does not name.
  app.setSerializerCompiler(() => JSON.stringify)
  // Nothing here is meant to be rendered, and the transport is the operator's choice.
  await app.register(helmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"] } },
    strictTransportSecurity: false,
  })
  identify(app)
  app.addHook('onResponse', async ({ method, url, log }, { statusCode }) => {
    if (method !== 'GET' && method !== 'HEAD') log.info({ method, url, status: statusCode }, 'request')
  })
  app.removeContentTypeParser('text/plain')
  app.addContentTypeParser(
    ['application/yaml', 'application/x-yaml', 'text/yaml'],
    { parseAs: 'string' },
    async (_: unknown, body: string | Buffer) => readYamlBody(String(body)),
  )
  app.setErrorHandler((error: Error, request, reply) => {
    const problem = toApiError(error)
    if (problem.code === 'internal') request.log.error({ err: error }, 'request failed')
    return sendProblem(reply, problem)
  })
  app.setNotFoundHandler((request, reply) =>
    sendProblem(
      reply,
      new ApiError('not-found', `there is no ${request.method} ${request.url.split('?')[0]}`),
    ),
  )
  app.addHook('onRequest', () => context.ready)
  await describe(app)
  const all: readonly Routes<Context>[] = [
    statusRoutes,
    documentRoutes,
    applyRoutes,
    explainRoutes,
    exemptionRequestRoutes,
    incidentRoutes,
    eventRoutes,
    attemptRoutes,
    sourceRoutes,
  ]
  for (const routes of all) await addRoutes(app, routes, context)
  return app
}

function readYamlBody(text: string): unknown {
  const { documents, diagnostics } = parseYaml('body', text)
  const [document, second] = documents
  if (diagnostics.length > 0 || document === undefined || second !== undefined) {
    throw new ApiError('bad-request', 'the body is not one YAML document', { diagnostics })
  }
  return document.value
}

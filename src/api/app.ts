/** The control API as a Fastify instance, apart from any socket. */
import type { IncomingMessage } from 'node:http'
import { type FastifyBaseLogger, type FastifyReply, fastify, LogController } from 'fastify'
import type { Logger } from 'pino'
import type { ApiConfig } from '../config/api.ts'
import type { AuditStore } from '../store/audit.ts'
import type { AnswerStore } from '../store/idempotency.ts'
import type { TokenStore } from '../store/tokens.ts'
import { type Identity, isStill } from './access/authenticate.ts'
import { guard } from './access/guard.ts'
import type { Context } from './context.ts'
import { checkAccept } from './http/accept.ts'
import { readBodies } from './http/bodies.ts'
import { hookChanges } from './http/change-hooks.ts'
import { toApiError } from './http/errors.ts'
import { mustNameHost } from './http/host.ts'
import { answerRepeats } from './http/idempotency.ts'
import { KeptAnswers } from './http/kept-answers.ts'
import { answerOtherMethods } from './http/methods.ts'
import { answerHeads } from './http/preconditions.ts'
import { sendProblem } from './http/problem.ts'
import { requestId } from './http/request-id.ts'
import { secureHeaders } from './http/security-headers.ts'
import { takeTurns } from './http/turns.ts'
import { describe } from './openapi.ts'
import { type Api, addRoutes, type Routes, type TypeBoxProvider } from './route.ts'
import { alertRoutes } from './routes/alerts.ts'
import { applyRoutes } from './routes/apply.ts'
import { attemptRoutes } from './routes/attempts.ts'
import { auditRoutes, keepAudit } from './routes/audit.ts'
import { documentRoutes } from './routes/documents.ts'
import { eventRoutes } from './routes/events.ts'
import { exemptionRequestRoutes } from './routes/exemption-requests.ts'
import { explainRoutes } from './routes/explain.ts'
import { historyRoutes } from './routes/history.ts'
import { incidentRoutes } from './routes/incidents.ts'
import { pullRoutes } from './routes/pull.ts'
import { reportRoutes } from './routes/report.ts'
import { silenceRoutes } from './routes/silences.ts'
import { sourceRoutes } from './routes/sources.ts'
import { statusRoutes } from './routes/status.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { webhookBodyRoutes } from './routes/webhook-body.ts'

const BODY_LIMIT = 1024 * 1024

/** What the API itself has to work with, beside the context of its routes. */
export interface Needs {
  readonly tokens: TokenStore
  readonly audit: AuditStore
  readonly answers: AnswerStore
  readonly config: ApiConfig
  /** What is shown to browsers. */
  readonly addPage: (app: Api) => Promise<void>
}

export async function createApp(context: Context, needs: Needs, logger: Logger): Promise<Api> {
  const { tokens, audit, answers, config, addPage } = needs
  const app: Api = fastify({
    bodyLimit: BODY_LIMIT,
    // A mistyped field must be an error, not something that is quietly mended or dropped.
    ajv: {
      customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: true },
    },
    routerOptions: { maxParamLength: 200 },
    genReqId: requestId,
    // What is not even an address.
    frameworkErrors: (error, _, reply) =>
      void sendProblem(reply as unknown as FastifyReply, toApiError(error)),
    // Scrapes and health checks would drown everything else; what changes something is in the audit.
    logController: new LogController({ disableRequestLogging: true }),
    // Not as the logger of the whole, for which Fastify would listen to the end of each response; where something is said
    // of a request, its id is.
    childLoggerFactory: () => logger as FastifyBaseLogger,
  }).withTypeProvider<TypeBoxProvider>()
  // As the handlers say: a serialiser made from a schema would drop what that does not name.
  app.setSerializerCompiler(() => JSON.stringify)
  app.decorateRequest('problem', null)
  secureHeaders(app, { overTls: config.tls !== null })
  app.setErrorHandler((error: Error, request, reply) => {
    const problem = toApiError(error)
    if (problem.code === 'internal') logger.error({ reqId: request.id, err: error }, 'request failed')
    return sendProblem(reply, problem)
  })
  answerOtherMethods(app)
  answerHeads(app)
  mustNameHost(app)
  takeTurns(app)
  keepAudit(app, audit, logger)
  const authentication = { tokens, config, now: Date.now }
  await guard(app, authentication, config.limits)
  let isReady = false
  void context.ready.then(() => {
    isReady = true
  })
  app.addHook('onRequest', (_, __, done) => {
    if (isReady) done()
    else context.ready.then(() => done(), done)
  })
  readBodies(app)
  checkAccept(app)
  answerRepeats(app, answers)
  const kept = new KeptAnswers(context.events)
  hookChanges(app, {
    onSend(_, __, payload, done) {
      kept.forget()
      done(null, payload)
    },
  })
  await describe(app)
  const all: readonly Routes<Context>[] = [
    reportRoutes,
    documentRoutes,
    applyRoutes,
    explainRoutes,
    exemptionRequestRoutes,
    historyRoutes,
    pullRoutes,
    attemptRoutes,
    sourceRoutes,
    alertRoutes,
    silenceRoutes,
    webhookBodyRoutes,
  ]
  for (const routes of all) await addRoutes(app, routes, context)
  for (const routes of [statusRoutes, incidentRoutes]) await addRoutes(app, routes, { ...context, kept })
  await addRoutes(app, eventRoutes, {
    events: context.events,
    isStill: (identity: Identity, request: IncomingMessage) => isStill(identity, request, authentication),
  })
  await addRoutes(app, tokenRoutes, tokens)
  await addRoutes(app, auditRoutes, audit)
  await addPage(app)
  return app
}

/** The control API as a Fastify instance, apart from any socket. */
import type { IncomingMessage } from 'node:http'
import { type FastifyBaseLogger, type FastifyReply, fastify, LogController } from 'fastify'
import type { Logger } from 'pino'
import type { ApiConfig } from '../config/api.ts'
import type { AuditStore } from '../store/audit.ts'
import type { AnswerStore } from '../store/idempotency.ts'
import type { TokenStore } from '../store/tokens.ts'
import { checkAccept } from './accept.ts'
import { type Identity, isStill } from './access/authenticate.ts'
import { guard } from './access/guard.ts'
import { alertRoutes } from './alerts.ts'
import { applyRoutes } from './apply.ts'
import { attemptRoutes } from './attempts.ts'
import { auditRoutes, keepAudit } from './audit.ts'
import { readBodies } from './bodies.ts'
import { hookChanges } from './change-hooks.ts'
import type { Context } from './context.ts'
import { documentRoutes } from './documents.ts'
import { toApiError } from './errors.ts'
import { eventRoutes } from './events.ts'
import { exemptionRequestRoutes } from './exemption-requests.ts'
import { explainRoutes } from './explain.ts'
import { historyRoutes } from './history.ts'
import { mustNameHost } from './host.ts'
import { answerRepeats } from './idempotency.ts'
import { incidentRoutes } from './incidents.ts'
import { KeptAnswers } from './kept-answers.ts'
import { answerOtherMethods } from './methods.ts'
import { describe } from './openapi.ts'
import { answerHeads } from './preconditions.ts'
import { sendProblem } from './problem.ts'
import { pullRoutes } from './pull.ts'
import { reportRoutes } from './report.ts'
import { requestId } from './request-id.ts'
import { type Api, addRoutes, type Routes, type TypeBoxProvider } from './route.ts'
import { secureHeaders } from './security-headers.ts'
import { silenceRoutes } from './silences.ts'
import { sourceRoutes } from './sources.ts'
import { statusRoutes } from './status.ts'
import { tokenRoutes } from './tokens.ts'
import { webhookBodyRoutes } from './webhook-body.ts'

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

/** `/v1/status`, `/healthz`, `/readyz`, `/metrics`: how the gateway is. */
import { Type } from 'typebox'
import type { ChannelStatus } from '../../alerts/line.ts'
import type { InForce } from '../../control/controller.ts'
import { pendingBody } from '../../control/trial/pending.ts'
import { INCIDENT_KINDS } from '../../detect/incident.ts'
import { PREFLIGHT_CODES } from '../../kernel/preflight.ts'
import { PolicyError } from '../../policy/policy-error.ts'
import type { Context } from '../context.ts'
import { GetConditions, NOT_MODIFIED } from '../http/etag.ts'
import { answerAtOnce, type KeptAnswers, sendKept } from '../http/kept-answers.ts'
import type { Answered, Routes } from '../route.ts'
import { Count, counts, DiagnosticSchema, Name, nullable, object, oneOf, Text, Time } from '../schemas.ts'
import { AppliedSchema, appliedBody, PendingSchema } from './apply.ts'
import { VERDICTS } from './attempts.ts'
import { RemoteSchema } from './pull.ts'
import { SubscriberSourceSchema, subscriberSources } from './subscribers.ts'

const MOST_DIAGNOSTICS = 20

export const StatusSchema = object(
  {
    gateway: Text,
    version: Text,
    started: Time,
    policy_directory: Text,
    in_sync: Type.Boolean({ description: 'the kernel holds the ruleset that was applied' }),
    drift: Type.Integer({ minimum: 0, description: 'times the kernel was found to hold something else' }),
    contested: Type.Boolean({ description: 'somebody else changes our table again and again' }),
    ruleset: nullable(AppliedSchema),
    pending: PendingSchema,
    held: nullable(
      object(
        { id: Text, digest: Text },
        { description: 'what was taken back, and comes into force again by an apply on purpose only' },
      ),
    ),
    refused: nullable(
      object(
        { reason: Text, diagnostics: Type.Array(DiagnosticSchema) },
        { description: 'why the policy directory, when it was last to come into force, did not' },
      ),
    ),
    documents: nullable(
      object({ policies: Count, relays: Count, exemptions: Count, lists: Count, tests: Count }),
    ),
    warnings: Type.Array(DiagnosticSchema),
    preflight: Type.Array(object({ code: oneOf(PREFLIGHT_CODES), message: Text }), {
      description: 'what keeps the rules from doing their work on this machine',
    }),
    attempts: object({
      total: Count,
      by_policy: Type.Array(object({ policy: Name, verdict: oneOf(VERDICTS), attempts: Count })),
    }),
    events: object(
      { listening: Type.Boolean(), received: Count, lost: Count },
      { description: 'since the service started: attempts known in detail, and by their number alone' },
    ),
    incidents: object({ open: counts(INCIDENT_KINDS) }),
    subscribers: Type.Array(SubscriberSourceSchema),
    alerts: object({
      waiting: counts(null, { description: 'news and messages that have not arrived, by channel' }),
      dead: counts(null, { description: 'messages that were given up, by channel' }),
      dropped: counts(null, { description: 'news thrown away for want of room, by channel' }),
    }),
    history: object({ failure: nullable(Text), details_not_kept: Count, unattributed: Count }),
    exemption_requests: object({ waiting: Count }),
    repository: object(
      {
        reason: nullable(Type.String({ description: 'why the policies have no history' })),
        branch: nullable(Text),
        revision: nullable(Text),
        waiting: Type.Integer({ minimum: 0, description: 'changes that are not committed yet' }),
        failure: nullable(Text),
        edited: object({
          state: oneOf(['in-force', 'not-in-force', 'unsound']),
          reason: nullable(Text),
          files: Type.Array(object({ path: Text, change: oneOf(['changed', 'added', 'removed', 'staged']) })),
          diagnostics: Type.Array(DiagnosticSchema),
        }),
        remote: nullable(RemoteSchema),
      },
      { description: 'the policies in git: what is committed, edited by hand, and at the remote' },
    ),
  },
  { title: 'Status', description: 'how the gateway is' },
)

const ReadySchema = object({ ready: Type.Boolean(), reasons: Type.Array(Text) }, { title: 'Ready' })

export const statusRoutes: Routes<Context & { readonly kept: KeptAnswers }> = (app, context) => {
  const { controller, monitor, metrics, preflight, kept } = context

  app.get(
    '/v1/status',
    {
      onRequest: answerAtOnce(kept),
      schema: {
        operationId: 'getStatus',
        summary: 'How the gateway is',
        tags: ['service'],
        headers: GetConditions,
        response: { 200: StatusSchema, 304: NOT_MODIFIED },
      },
      config: { access: 'viewer', problems: ['precondition-failed'] },
    },
    (request, reply) => sendKept(request, reply, kept, () => statusOf(context)),
  )

  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'isAlive',
        summary: 'Whether the service answers',
        tags: ['service'],
        response: { 200: object({ status: oneOf(['ok']) }) },
      },
      config: { access: 'public' },
    },
    () => ({ status: 'ok' }) as const,
  )

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'isReady',
        summary: 'Whether the gateway does its work',
        tags: ['service'],
        response: { 200: ReadySchema, 503: ReadySchema },
      },
      config: { access: 'public' },
    },
    async (_, reply) => {
      const { inSync, listening } = monitor.status()
      const canKeep = !preflight.findings.some(({ code }) => code === 'state-unwritable')
      const reasons = [
        ...(controller.inForce === null ? ['no policies are in force'] : []),
        ...(inSync === true ? [] : ['the kernel does not hold the ruleset']),
        ...(listening ? [] : ['the event source is dead']),
        ...(canKeep ? [] : ['the state directory cannot be written']),
      ]
      return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons })
    },
  )

  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'getMetrics',
        summary: 'For Prometheus',
        tags: ['service'],
        response: { 200: { content: { 'text/plain': { schema: Type.String() } } } },
      },
      config: { access: 'viewer' },
    },
    async (_, reply) => reply.type(metrics.contentType).send(await metrics.render()),
  )
}

function statusOf(context: Context): Answered<typeof StatusSchema> {
  const { gateway, version, policyDirectory, started, controller, monitor, alerts, preflight } = context
  const { inSync, listening, drift, contested, attempts, told, lost, sums } = monitor.status()
  const { inForce } = controller
  const { held } = controller.trial
  const byKind = Object.fromEntries(
    Object.entries(monitor.detector.openByKind()).filter(([, count]) => count > 0),
  )
  return {
    gateway,
    version,
    started: new Date(started).toISOString(),
    policy_directory: policyDirectory,
    in_sync: inSync === true,
    drift,
    /** Somebody else changes our table again and again. */
    contested,
    ruleset: inForce === null ? null : appliedBody(inForce),
    /** What is in force until it is taken back, unless somebody confirms it. */
    pending: pendingBody(controller.trial),
    /** What was taken back, and comes into force again by an apply on purpose only. */
    held: held === null ? null : { id: held.id, digest: held.digest },
    refused: refusedBody(controller.refused),
    documents: inForce === null ? null : countDocuments(inForce),
    warnings: inForce?.loaded.diagnostics ?? [],
    /** What keeps the rules from doing their work on this machine. */
    preflight: preflight.findings.map(({ code, message }) => ({ code, message })),
    attempts: {
      total: attempts,
      by_policy: sums.flatMap(({ what, packets }) =>
        what.of === 'attempts' ? [{ policy: what.policy, verdict: what.verdict, attempts: packets }] : [],
      ),
    },
    events: { listening, received: told, lost },
    incidents: { open: byKind },
    subscribers: subscriberSources(context.subscribers),
    alerts: alertsBody(alerts.status()),
    history: historyBody(context),
    exemption_requests: { waiting: context.requests.waiting },
    repository: context.repository.body(),
  }
}

/** What holds up many documents is told by its first mistakes; the rest is in the log, and in what `check` says. */
function refusedBody(refused: Context['controller']['refused']) {
  if (refused === null) return null
  const diagnostics = refused instanceof PolicyError ? refused.diagnostics.slice(0, MOST_DIAGNOSTICS) : []
  return { reason: refused.message, diagnostics }
}

/** Of each channel that has any. */
function alertsBody(channels: readonly ChannelStatus[]) {
  const byChannel = (count: (one: ChannelStatus) => number) =>
    Object.fromEntries(channels.flatMap((one) => (count(one) === 0 ? [] : [[one.name, count(one)]])))
  return {
    waiting: byChannel(({ queued, waiting }) => queued + waiting),
    dead: byChannel(({ dead }) => dead),
    dropped: byChannel(({ dropped }) => dropped),
  }
}

/** What is not remembered although it happened, and why nothing can be written at present. */
function historyBody({ history: { log } }: Context) {
  const { details, unattributed } = log.lost
  return { failure: log.failure?.message ?? null, details_not_kept: details, unattributed }
}

function countDocuments({ model, loaded }: InForce) {
  const { policies, relays, exemptions, tests } = model
  const lists = loaded.documents.filter(({ document }) => document.kind === 'list')
  return {
    policies: policies.length,
    relays: relays.length,
    exemptions: exemptions.length,
    lists: lists.length,
    tests: tests.length,
  }
}

/** `/v1/status`, `/healthz`, `/readyz`, `/metrics`, `/v1/plan`, and `/v1/apply` with what may follow it. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { CONFIRM_RANGE, parseConfirm } from '../control/confirmation.ts'
import type { InForce } from '../control/controller.ts'
import { pendingBody } from '../control/pending.ts'
import { planBody } from '../plan/plan-body.ts'
import type { Context } from './context.ts'
import { ApiError } from './problem.ts'

const ApplyQuery = Type.Object({ confirm: Type.Optional(Type.String()) }, { additionalProperties: false })

export function statusRoutes(app: FastifyInstance, context: Context): void {
  const { controller, monitor, metrics } = context

  app.get('/v1/status', () => statusOf(context))
  app.get('/healthz', () => ({ status: 'ok' }))
  app.get('/readyz', (_, reply) => {
    const { inSync, listening } = monitor.status()
    const reasons = [
      ...(controller.inForce === null ? ['no policies are in force'] : []),
      ...(inSync === true ? [] : ['the kernel does not hold the ruleset']),
      ...(listening ? [] : ['the event source is dead']),
    ]
    return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons })
  })
  app.get('/metrics', async (_, reply) => reply.type(metrics.contentType).send(await metrics.render()))
  app.post('/v1/plan', async () => planBody(await controller.plan()))
  app.post<{ Querystring: Static<typeof ApplyQuery> }>(
    '/v1/apply',
    { schema: { querystring: ApplyQuery } },
    async ({ query: { confirm }, caller }) => {
      if (confirm === undefined) return appliedBody(await metrics.timeApply(() => controller.apply(caller)))
      const seconds = parseConfirm(confirm)
      if (seconds === null) throw new ApiError('bad-request', `confirm=${confirm}: ${CONFIRM_RANGE}`)
      const applied = await metrics.timeApply(() => controller.applyOnTrial(seconds, caller))
      return { ...appliedBody(applied), pending: pendingBody(controller.trial) }
    },
  )
  app.post('/v1/confirm', async () => {
    const { id, bootFileError } = await controller.confirm()
    return { id, boot_file_error: bootFileError?.message ?? null }
  })
  app.post('/v1/rollback', () => controller.rollBack())
}

function statusOf(context: Context) {
  const { gateway, version, policyDirectory, started, controller, monitor, outbox, preflight } = context
  const { inSync, listening, drift, contested, attempts, told, lost, sums } = monitor.status()
  const { inForce } = controller
  const { held } = controller.trial
  const byKind: Record<string, number> = {}
  for (const { kind } of monitor.detector.open()) byKind[kind] = (byKind[kind] ?? 0) + 1
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
    alerts: { waiting: Object.fromEntries(outbox.waiting()) },
    history: historyBody(context),
  }
}

/** What is not remembered although it happened, and why nothing can be written at present. */
function historyBody({ history: { log } }: Context) {
  const { details, unattributed } = log.lost
  return { failure: log.failure?.message ?? null, details_not_kept: details, unattributed }
}

function appliedBody({ applied, time }: InForce) {
  const { how, digest, elements, chains, bootFileError } = applied
  return {
    digest,
    applied: new Date(time).toISOString(),
    how,
    elements,
    chains,
    /** Why the ruleset would not be there after a reboot; null when it would. */
    boot_file_error: bootFileError?.message ?? null,
  }
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

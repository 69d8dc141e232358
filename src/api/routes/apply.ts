/** `/v1/plan`, and `/v1/apply` with what may follow it: the whole directory. */
import { Type } from 'typebox'
import type { InForce } from '../../control/controller.ts'
import { CONFIRM_RANGE, parseConfirm } from '../../control/trial/confirmation.ts'
import { pendingBody } from '../../control/trial/pending.ts'
import { planBody } from '../../plan/plan-body.ts'
import type { Context } from '../context.ts'
import { ApiError, type ProblemCode } from '../http/problem.ts'
import type { Routes } from '../route.ts'
import { Count, nullable, object, oneOf, Text, Time } from '../schemas.ts'
import { PlanSchema } from './plan-schema.ts'

const ApplyQuery = object({
  confirm: Type.Optional(
    Type.String({
      maxLength: 16,
      description: 'taken back after so long, unless it is confirmed',
      examples: ['60s'],
    }),
  ),
})

const BootFileError = nullable(
  Type.String({ description: 'why it would not be there after a reboot; null when it would' }),
)

export const AppliedSchema = object(
  {
    digest: Text,
    applied: Time,
    how: oneOf(['unchanged', 'delta', 'replacement']),
    elements: Count,
    chains: Count,
    boot_file_error: BootFileError,
  },
  { title: 'Applied', description: 'the ruleset in force, and how it came into force' },
)

export const PendingSchema = nullable(
  object(
    { id: Text, deadline: Time, seconds_left: Type.Number() },
    { title: 'Pending', description: 'in force until it is taken back, unless somebody confirms it' },
  ),
)

const OF_POLICIES: readonly ProblemCode[] = ['invalid-policy', 'policy-tests-failed', 'policies-unreadable']
const OF_CHANGES: readonly ProblemCode[] = ['confirmation-pending', 'kernel-refused']

export const applyRoutes: Routes<Context> = (app, { controller, metrics }) => {
  app.post(
    '/v1/plan',
    {
      schema: {
        operationId: 'plan',
        summary: 'What an apply would change',
        tags: ['changes'],
        response: { 200: PlanSchema },
      },
      config: { access: 'operator', problems: [...OF_POLICIES, 'kernel-refused'] },
    },
    async () => planBody(await controller.plan()),
  )

  app.post(
    '/v1/apply',
    {
      schema: {
        operationId: 'apply',
        summary: 'Bring the policy directory into force as it stands',
        tags: ['changes'],
        querystring: ApplyQuery,
        response: { 200: object({ ...AppliedSchema.properties, pending: Type.Optional(PendingSchema) }) },
      },
      config: { access: 'operator', problems: [...OF_POLICIES, ...OF_CHANGES, 'unguarded'] },
    },
    async ({ query: { confirm }, caller }) => {
      if (confirm === undefined) return appliedBody(await metrics.timeApply(() => controller.apply(caller)))
      const seconds = parseConfirm(confirm)
      if (seconds === null) throw new ApiError('bad-request', `confirm=${confirm}: ${CONFIRM_RANGE}`)
      const applied = await metrics.timeApply(() => controller.applyOnTrial(seconds, caller))
      return { ...appliedBody(applied), pending: pendingBody(controller.trial) }
    },
  )

  app.post(
    '/v1/confirm',
    {
      schema: {
        operationId: 'confirm',
        summary: 'Keep what waits for its confirmation',
        tags: ['changes'],
        response: { 200: object({ id: Text, boot_file_error: BootFileError }) },
      },
      config: { access: 'operator', problems: ['nothing-pending', 'kernel-refused'] },
    },
    async () => {
      const { id, bootFileError } = await controller.confirm()
      return { id, boot_file_error: bootFileError?.message ?? null }
    },
  )

  app.post(
    '/v1/rollback',
    {
      schema: {
        operationId: 'rollBack',
        summary: 'Take back at once what waits for its confirmation',
        tags: ['changes'],
        response: { 200: object({ id: Text }) },
      },
      config: { access: 'operator', problems: ['nothing-pending', 'kernel-refused'] },
    },
    async () => ({ id: (await controller.rollBack()).id }),
  )
}

export function appliedBody({ applied, time }: InForce) {
  const { how, digest, elements, chains, bootFileError } = applied
  return {
    digest,
    applied: new Date(time).toISOString(),
    how,
    elements,
    chains,
    boot_file_error: bootFileError?.message ?? null,
  }
}

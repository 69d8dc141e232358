/** Brings the policies into force at the start and at a reload, and says why where they cannot be. */
import type { Logger } from 'pino'
import type { Metrics } from '../api/metrics/metrics.ts'
import type { Config } from '../config/config.ts'
import type { Controller } from '../control/controller.ts'
import { ConfirmationPendingError, HeldError } from '../control/trial/pending.ts'
import type { Enforcer } from '../kernel/enforcer.ts'
import type { Diagnostic } from '../policy/diagnostic.ts'
import { DirectoryError } from '../policy/files.ts'
import { PolicyError } from '../policy/policy-error.ts'

/** A mistake in the policies must not keep the gateway from being watched: what was good last stays in force. */
export async function applyAtStart(
  controller: Controller,
  enforcer: Enforcer,
  { policyDirectory }: Config,
  metrics: Metrics,
  log: Logger,
): Promise<void> {
  try {
    const { applied, loaded } = await metrics.timeApply(() => controller.applyUnlessHeld())
    for (const diagnostic of loaded.diagnostics) logDiagnostic(log, diagnostic)
    log.info(
      { how: applied.how, digest: applied.digest, elements: applied.elements },
      'policies are in force',
    )
    const { pending, secondsLeft } = controller.trial
    if (pending !== null) {
      log.warn(
        { id: pending.id, seconds_left: secondsLeft },
        'a change from before waits for its confirmation',
      )
    }
  } catch (error) {
    if (!isOfThePolicies(error)) throw error
    logRefusal(log, error)
    const rules = await enforcer.restoreForBoot()
    const documents = (await controller.resume()) === null ? 'unknown' : 'known'
    log.error(
      { policies: policyDirectory, rules, documents },
      'running on the last good rules until the policies are mended',
    )
  }
}

/** At a reload: what does not pass changes nothing, and is told. */
export async function reapply(controller: Controller, metrics: Metrics, log: Logger): Promise<void> {
  try {
    const { applied } = await metrics.timeApply(() => controller.applyUnlessHeld())
    log.info({ how: applied.how, digest: applied.digest }, 'policies applied again')
  } catch (error) {
    logRefusal(log, error as Error)
  }
}

/** Faults that leave in force what is, and do not keep the service down. */
function isOfThePolicies(error: unknown): error is Error {
  return [PolicyError, DirectoryError, HeldError, ConfirmationPendingError].some(
    (kind) => error instanceof kind,
  )
}

function logRefusal(log: Logger, error: Error): void {
  if (error instanceof PolicyError) {
    for (const diagnostic of error.diagnostics) logDiagnostic(log, diagnostic)
    for (const { test, expectation, found } of error.failedTests) {
      log.error({ test, at: expectation.origin, found }, 'policy test failed')
    }
  }
  log.error({ reason: error.message }, 'policies not applied')
}

function logDiagnostic(log: Logger, diagnostic: Diagnostic): void {
  if (diagnostic.severity === 'error') log.error({ diagnostic }, 'policy mistake')
  else log.warn({ diagnostic }, 'policy warning')
}

/** The workflow of exemptions, put together. */
import type { DatabaseSync } from 'node:sqlite'
import type { Logger } from 'pino'
import type { Caller } from '../caller.ts'
import type { ExemptionsConfig } from '../config/exemptions.ts'
import type { Incident, IncidentEvent } from '../detect/incident.ts'
import { DueRevocations } from '../store/due-revocations.ts'
import { ExemptionRequestStore } from '../store/exemption-requests.ts'
import { AnomalyRevocation } from './anomaly-revocation.ts'
import type { Controller, InForce } from './controller.ts'
import { ExemptionRequests } from './exemption-requests.ts'
import type { News } from './news.ts'

export interface Exemptions {
  readonly requests: ExemptionRequests
  incident(event: IncidentEvent): void
  applied(inForce: InForce, by: Caller): void
  /** Forgets requests that were over before the time. */
  prune(before: number): void
}

export function openExemptions(options: {
  readonly config: ExemptionsConfig
  readonly database: DatabaseSync
  readonly controller: Controller
  readonly openIncidents: () => readonly Incident[]
  readonly resumed: readonly Incident[]
  readonly news: News
  readonly log: Logger
}): Exemptions {
  const { config, database, controller, openIncidents, resumed, news, log } = options
  const store = new ExemptionRequestStore(database)
  const requests = new ExemptionRequests({
    store,
    controller,
    fourEyes: config.fourEyes,
    openIncidents,
    now: Date.now,
    onEvent: (request, event) => news.exemptionRequest(request, event),
  })
  const due = new DueRevocations(database)
  const revokes = config.onAnomaly === 'revoke'
  // What is not wanted now shall not be done when it is wanted again.
  if (!revokes) due.clear()
  const revocation = new AnomalyRevocation({
    controller,
    due,
    resumed,
    because: (name, reason) => requests.because(name, reason),
    onRevoked: (revocation) => news.exemptionRevoked(revocation),
    onFailed: (exemption, { message }) =>
      log.error({ exemption, reason: message }, 'an exemption could not be revoked, will try again'),
    onUnkept: ({ message }) =>
      log.error({ reason: message }, 'which exemptions are to be revoked would be forgotten by a restart'),
  })
  let isFirst = true
  return {
    requests,
    incident: (event) => {
      if (revokes) void revocation.incident(event)
    },
    applied: (inForce, by) => {
      if (isFirst && revokes) void revocation.resume()
      isFirst = false
      // What waits for its confirmation may go again.
      if (controller.trial.pending === null) requests.applied(inForce, by)
    },
    prune: (before) => store.prune(before),
  }
}

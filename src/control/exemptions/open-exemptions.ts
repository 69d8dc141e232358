/** The workflow of exemptions, put together. */
import type { DatabaseSync } from 'node:sqlite'
import type { Logger } from 'pino'
import type { Caller } from '../../caller.ts'
import type { ExemptionsConfig } from '../../config/exemptions.ts'
import type { Incident, IncidentEvent } from '../../detect/incident.ts'
import { DueRevocations } from '../../store/due-revocations.ts'
import { ExemptionRequestStore } from '../../store/exemption-requests.ts'
import type { Controller, InForce } from '../controller.ts'
import type { News } from '../news.ts'
import { AnomalyRevocation } from './anomaly-revocation.ts'
import { ExemptionRequests } from './exemption-requests.ts'

export interface Exemptions {
  readonly requests: ExemptionRequests
  incident(event: IncidentEvent): void
  /** A change is made: in the kernel and in its files. */
  made(inForce: InForce, by: Caller, isWhole: boolean): void
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
  const unwritable = ({ message }: Error) =>
    log.error(
      { reason: message },
      'the database cannot be written; requests for exemptions are brought up to date later',
    )
  const store = new ExemptionRequestStore(database)
  const requests = new ExemptionRequests({
    store,
    controller,
    fourEyes: config.fourEyes,
    openIncidents,
    now: Date.now,
    onEvent: (request, event) => news.exemptionRequest(request, event),
    onUnwritable: unwritable,
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
    made: (...made) => {
      try {
        requests.made(...made)
      } catch (error) {
        unwritable(error as Error)
      }
      if (isFirst && revokes) void revocation.resume()
      isFirst = false
    },
    prune: (before) => store.prune(before),
  }
}

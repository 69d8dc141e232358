/** What the routes are given to work with. */

import type { Alerts } from '../alerts/alerts.ts'
import type { Controller } from '../control/controller.ts'
import type { EventLog } from '../control/event-log.ts'
import type { ExemptionRequests } from '../control/exemptions/exemption-requests.ts'
import type { PreflightWatch } from '../control/preflight-watch.ts'
import type { Reporter } from '../control/report.ts'
import type { PolicyRepository } from '../control/repository/policy-repository.ts'
import type { AttemptHistory } from '../control/watching/attempt-history.ts'
import type { Monitor } from '../control/watching/monitor.ts'
import type { IncidentEvent } from '../detect/incident.ts'
import type { PoliciesConfig } from '../history/policies-config.ts'
import type { Enforcer } from '../kernel/enforcer.ts'
import type { LocalUsers } from '../kernel/local-users.ts'
import type { IncidentStore } from '../store/incidents.ts'
import type { Subscribers } from '../subscribers/subscribers.ts'
import type { Metrics } from './metrics/metrics.ts'

export interface Context {
  readonly gateway: string
  readonly version: string
  readonly policyDirectory: string
  readonly outsideInterfaces: readonly string[]
  /** Milliseconds since the epoch. */
  readonly started: number
  /** Fulfilled when the rules are in force; requests wait for it. */
  readonly ready: Promise<void>
  readonly controller: Controller
  readonly monitor: Monitor
  readonly enforcer: Enforcer
  readonly incidents: IncidentStore
  readonly history: AttemptHistory
  /** Milliseconds for which the past is remembered. */
  readonly retain: number
  readonly users: LocalUsers
  readonly reporter: Reporter
  readonly subscribers: Pick<Subscribers, 'find' | 'status'>
  readonly alerts: Alerts
  readonly events: EventLog
  readonly preflight: Pick<PreflightWatch, 'findings'>
  readonly metrics: Metrics
  readonly requests: ExemptionRequests
  readonly repository: PolicyRepository
  readonly policies: PoliciesConfig
  /** Whether exemptions need somebody else's approval than the one's who asked. */
  readonly fourEyes: boolean
  /** Milliseconds before its end from which an exemption counts as expiring. */
  readonly expiring: number
  /** Stores and announces what became of an incident. */
  readonly onIncident: (event: IncidentEvent) => void
}

/** Prometheus metrics. A scrape reads memory only: it never starts a process. */
import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import type { ChannelStatus } from '../../alerts/line.ts'
import type { AlertMetrics } from '../../alerts/log.ts'
import type { Lead } from '../../config/exemptions.ts'
import type { Controller } from '../../control/controller.ts'
import type { ExemptionRequests } from '../../control/exemptions/exemption-requests.ts'
import type { LapseWatch } from '../../control/exemptions/lapse-watch.ts'
import type { PreflightWatch } from '../../control/preflight-watch.ts'
import type { PolicyRepository } from '../../control/repository/policy-repository.ts'
import type { Monitor } from '../../control/watching/monitor.ts'
import { INCIDENT_KINDS } from '../../detect/incident.ts'
import { PREFLIGHT_CODES } from '../../kernel/preflight.ts'
import { parseDuration } from '../../policy/formats.ts'
import { KINDS } from '../../policy/schema.ts'
import { VERSION } from '../../version.ts'
import { createAlertMetrics } from './alert-metrics.ts'
import { gaugesOf } from './gauges.ts'
import { createHistoryMetrics } from './history-metrics.ts'

export interface Metrics extends AlertMetrics {
  readonly contentType: string
  render(): Promise<string>
  /** Measures how long an apply takes. */
  timeApply<T>(work: () => Promise<T>): Promise<T>
}

/** Gauges that are called totals; the same numbers are there by type. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

export interface Measured {
  readonly controller: Pick<Controller, 'inForce' | 'trial'>
  readonly preflight: Pick<PreflightWatch, 'findings'>
  readonly lapses: Pick<LapseWatch, 'ending'>
  readonly leads: readonly Lead[]
  readonly requests: Pick<ExemptionRequests, 'waiting'>
  readonly alerts: { status(): readonly ChannelStatus[] }
  readonly repository: Pick<PolicyRepository, 'measured'>
}

export function createMetrics(
  monitor: Monitor,
  { controller, preflight, lapses, leads, requests, alerts, repository }: Measured,
): Metrics {
  const registry = new Registry()
  // Memory, processor time and the event loop of the service itself, under the names that everybody knows.
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  const registers = [registry]
  const counted = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    collect: (c: Counter<L>) => void,
  ) =>
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset()
        collect(this)
      },
    })
  const measured = gaugesOf(registry)

  counted(
    'egress25_attempts_total',
    'SYNs to port 25 that a policy governed',
    ['policy', 'verdict'],
    (counter) => {
      for (const { what, packets } of monitor.status().sums) {
        if (what.of === 'attempts') counter.inc({ policy: what.policy, verdict: what.verdict }, packets)
      }
    },
  )
  counted('egress25_allowed_total', 'SYNs to port 25 of relays and exempt hosts', ['because'], (counter) => {
    for (const { what, packets } of monitor.status().sums) {
      if (what.of === 'allowed') counter.inc({ because: what.because }, packets)
    }
  })
  counted('egress25_events_received_total', 'attempts known in detail', [], (counter) =>
    counter.inc(monitor.status().told),
  )
  counted('egress25_events_lost_total', 'attempts known only by their number', [], (counter) =>
    counter.inc(monitor.status().lost),
  )
  counted('egress25_drift_total', 'times the kernel was found to hold something else', [], (counter) =>
    counter.inc(monitor.status().drift),
  )
  measured('egress25_in_sync', '1 when the kernel holds the ruleset that was applied', [], (gauge) =>
    gauge.set(monitor.status().inSync === true ? 1 : 0),
  )
  measured('egress25_contested', '1 while another program changes our table again and again', [], (gauge) =>
    gauge.set(monitor.status().contested ? 1 : 0),
  )
  measured('egress25_build_info', 'the version that runs, as a label', ['version'], (gauge) =>
    gauge.set({ version: VERSION }, 1),
  )
  measured('egress25_documents', 'policy documents in force', ['kind'], (gauge) => {
    for (const kind of KINDS) gauge.set({ kind }, 0)
    for (const { document } of controller.inForce?.loaded.documents ?? []) gauge.inc({ kind: document.kind })
  })
  measured(
    'egress25_last_apply_timestamp_seconds',
    'when the rules in force were applied; 0: none are',
    [],
    (gauge) => gauge.set((controller.inForce?.time ?? 0) / 1_000),
  )
  measured('egress25_boot_file_ok', '1 when the next boot would bring the rules in force', [], (gauge) => {
    const { inForce, trial } = controller
    gauge.set(inForce !== null && inForce.applied.bootFileError === null && trial.pending === null ? 1 : 0)
  })
  measured('egress25_confirmation_pending', '1 while a change waits for its confirmation', [], (gauge) =>
    gauge.set(controller.trial.pending === null ? 0 : 1),
  )
  measured('egress25_policies_held', '1 while the files say what was taken back', [], (gauge) =>
    gauge.set(controller.trial.held === null ? 0 : 1),
  )
  measured('egress25_event_source_up', '1 when attempts are being listened for', [], (gauge) =>
    gauge.set(monitor.status().listening ? 1 : 0),
  )
  measured('egress25_incidents_open', 'open incidents', ['kind'], (gauge) => {
    const counts = monitor.detector.openByKind()
    for (const kind of INCIDENT_KINDS) gauge.set({ kind }, counts[kind])
  })
  measured(
    'egress25_preflight_warnings',
    'what keeps the rules from doing their work on this machine',
    ['code'],
    (gauge) => {
      for (const code of PREFLIGHT_CODES) gauge.set({ code }, 0)
      for (const { code } of preflight.findings) gauge.inc({ code })
    },
  )
  // Whatever is announced, the shipped rules and the dashboard ask for a day and a week.
  const endings = new Map([
    ...leads.map(({ milliseconds, text }) => [milliseconds, text] as const),
    ...['1d', '7d'].map((text) => [parseDuration(text) ?? 0, text] as const),
  ])
  // Not one series for each exemption: there may be thousands, and names come and go.
  measured('egress25_exemptions_ending', 'exemptions that end within this time', ['within'], (gauge) => {
    for (const [milliseconds, text] of endings) gauge.set({ within: text }, lapses.ending(milliseconds))
  })
  measured('egress25_exemptions_ended', 'exemptions that have ended, and can be removed', [], (gauge) =>
    gauge.set(lapses.ending(0)),
  )
  measured(
    'egress25_exemption_requests_waiting',
    'requests for exemptions that nobody has decided',
    [],
    (gauge) => gauge.set(requests.waiting),
  )
  const applies = new Histogram({
    name: 'egress25_apply_seconds',
    help: 'time from reading the policies to rules in force',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  })
  createHistoryMetrics(registry, repository)
  const alertMetrics = createAlertMetrics(registry, alerts)
  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    async timeApply(work) {
      const end = applies.startTimer()
      try {
        return await work()
      } finally {
        end()
      }
    },
    ...alertMetrics,
  }
}

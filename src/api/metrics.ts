/** Prometheus metrics. A scrape reads memory only: it never starts a process. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Lead } from '../config.ts'
import type { LapseWatch } from '../control/lapse-watch.ts'
import type { Monitor } from '../control/monitor.ts'
import type { PreflightWatch } from '../control/preflight-watch.ts'
import { INCIDENT_KINDS } from '../detect/incident.ts'
import { PREFLIGHT_CODES } from '../kernel/preflight.ts'

export interface Metrics {
  readonly contentType: string
  render(): Promise<string>
  /** Measures how long an apply takes. */
  timeApply<T>(work: () => Promise<T>): Promise<T>
  alertSent(channel: string, outcome: 'sent' | 'failed'): void
}

export interface Measured {
  readonly preflight: Pick<PreflightWatch, 'findings'>
  readonly lapses: Pick<LapseWatch, 'ending'>
  readonly leads: readonly Lead[]
}

export function createMetrics(monitor: Monitor, { preflight, lapses, leads }: Measured): Metrics {
  const registry = new Registry()
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
  const measured = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    collect: (g: Gauge<L>) => void,
  ) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        collect(this)
      },
    })

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
  measured('egress25_event_source_up', '1 when attempts are being listened for', [], (gauge) =>
    gauge.set(monitor.status().listening ? 1 : 0),
  )
  measured('egress25_incidents_open', 'open incidents', ['kind'], (gauge) => {
    for (const kind of INCIDENT_KINDS) gauge.set({ kind }, 0)
    for (const { kind } of monitor.detector.open()) gauge.inc({ kind })
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
  // Not one series for each exemption: there may be thousands, and names come and go.
  measured('egress25_exemptions_ending', 'exemptions that end within this time', ['within'], (gauge) => {
    for (const { text, milliseconds } of leads) gauge.set({ within: text }, lapses.ending(milliseconds))
  })
  measured('egress25_exemptions_ended', 'exemptions that have ended, and can be removed', [], (gauge) =>
    gauge.set(lapses.ending(0)),
  )
  const applies = new Histogram({
    name: 'egress25_apply_seconds',
    help: 'time from reading the policies to rules in force',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  })
  const alerts = new Counter({
    name: 'egress25_alerts_total',
    help: 'tries to deliver a message',
    labelNames: ['channel', 'outcome'],
    registers,
  })
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
    alertSent: (channel, outcome) => alerts.inc({ channel, outcome }),
  }
}

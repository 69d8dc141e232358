/** Metrics of alerts. Channels are few, and their names are the operator's: labels stay few. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { ChannelStatus } from '../../alerts/line.ts'
import type { AlertMetrics } from '../../alerts/log.ts'

export function createAlertMetrics(
  registry: Registry,
  alerts: { status(): readonly ChannelStatus[] },
): AlertMetrics {
  const registers = [registry]
  const gauge = (name: string, help: string, value: (one: ChannelStatus) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['channel'],
      registers,
      collect() {
        for (const one of alerts.status()) this.set({ channel: one.name }, value(one))
      },
    })
  gauge('egress25_alerts_waiting', 'messages that have not arrived yet', ({ waiting }) => waiting)
  gauge('egress25_alerts_held', 'news that is held back for a digest', ({ held }) => held)
  gauge('egress25_alerts_queued', 'news that is in no message yet', ({ queued }) => queued)
  gauge('egress25_alerts_dead', 'messages that were given up', ({ dead }) => dead)
  gauge('egress25_alert_channel_up', '0 when the latest tries have failed', ({ failures }) =>
    failures === 0 ? 1 : 0,
  )
  new Counter({
    name: 'egress25_alerts_dropped_total',
    help: 'news thrown away for want of room',
    labelNames: ['channel'],
    registers,
    collect() {
      this.reset()
      for (const { name, dropped } of alerts.status()) this.inc({ channel: name }, dropped)
    },
  })
  const tries = new Counter({
    name: 'egress25_alerts_total',
    help: 'tries to deliver a message: sent, failed (and tried again), dead (given up)',
    labelNames: ['channel', 'outcome'],
    registers,
    // From the start, or no rate would see the first try of each.
    collect() {
      for (const { name } of alerts.status())
        for (const outcome of ['sent', 'failed', 'dead']) this.inc({ channel: name, outcome }, 0)
    },
  })
  const delay = new Histogram({
    name: 'egress25_alert_delay_seconds',
    help: 'from what happened to the arrival of the message that tells of it',
    labelNames: ['channel'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120, 600, 3_600, 21_600],
    registers,
  })
  return {
    alertSent: (channel, outcome) => tries.inc({ channel, outcome }),
    alertDelay: (channel, seconds) => delay.observe({ channel }, seconds),
  }
}

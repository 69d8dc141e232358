/** How channels fare, in the log and the metrics. */
import type { Logger } from 'pino'

/** What operators and metrics are told. Delays in milliseconds, from the news to its arrival. */
export interface AlertsLog {
  sent(channel: string, delay: number): void
  failed(channel: string, error: Error, retryIn: number): void
  /** What a channel does of its own accord has failed. */
  faulty(channel: string, error: Error): void
  dead(channel: string, id: number, error: Error): void
  dropped(channel: string, news: number): void
  unwritable(error: Error): void
}

/** The part of the metrics that is about alerts; delays in seconds. */
export interface AlertMetrics {
  alertSent(channel: string, outcome: 'sent' | 'failed' | 'dead'): void
  alertDelay(channel: string, seconds: number): void
}

export function alertsLog(log: Logger, metrics: () => AlertMetrics): AlertsLog {
  let complaint = ''
  return {
    sent(channel, delay) {
      metrics().alertSent(channel, 'sent')
      metrics().alertDelay(channel, Math.max(0, delay) / 1_000)
    },
    failed(channel, error, retryIn) {
      metrics().alertSent(channel, 'failed')
      log.warn(
        { channel, reason: error.message, retry_in_ms: retryIn },
        'alert not delivered, will try again',
      )
    },
    faulty: (channel, { message }) =>
      log.warn({ channel, reason: message }, 'a channel of alerts has a fault'),
    dead(channel, id, error) {
      metrics().alertSent(channel, 'dead')
      log.error(
        { channel, id, reason: error.message },
        'alert given up; egress25 alerts resend sends it once more',
      )
    },
    dropped(channel, news) {
      log.error({ channel, news }, 'too much news waits for a channel; the oldest was thrown away')
    },
    /** One line for each reason, not one a second. */
    unwritable({ message }) {
      if (message === complaint) return
      complaint = message
      log.error({ reason: message }, 'the database cannot be written; alerts wait')
    },
  }
}

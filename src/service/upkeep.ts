/** What is done again and again while the service runs: signs of life, what is due, and forgetting what is over. */
import type { Logger } from 'pino'
import type { Alerts } from '../alerts/alerts.ts'
import type { Config } from '../config/config.ts'
import type { Controller } from '../control/controller.ts'
import type { EventLog } from '../control/event-log.ts'
import type { LapseWatch } from '../control/exemptions/lapse-watch.ts'
import type { News } from '../control/news.ts'
import type { Detector } from '../detect/detector.ts'
import { notifySystemd, watchdogInterval } from '../notify.ts'
import type { EvidenceStore } from '../store/evidence.ts'
import type { IncidentStore } from '../store/incidents.ts'

const TICK_INTERVAL = 1_000
const PRUNE_INTERVAL = 3_600_000
/** Milliseconds between attempts to keep for the next boot what could not be kept. */
const KEEP_INTERVAL = 10_000

/** Forgets what is older than a time in milliseconds since the epoch. */
interface Prunable {
  prune(before: number): unknown
}

export interface Kept {
  readonly incidents: Pick<IncidentStore, 'prune' | 'forgetSubscribers'>
  readonly lapses: Pick<LapseWatch, 'prune'>
  readonly baselines: Prunable
  readonly exemptions: Prunable
  readonly evidence: Pick<EvidenceStore, 'prune'>
  readonly alerts: Pick<Alerts, 'prune' | 'tick'>
  readonly events: Pick<EventLog, 'tick'>
  readonly news: Pick<News, 'tick'>
  readonly monitor: { readonly detector: Pick<Detector, 'open'> }
  readonly controller: Pick<Controller, 'keepForBoot'>
  readonly log: Logger
}

/** Begins at once, with forgetting; answers how to end it. */
export function startUpkeep(
  { retain, retainSubscribers }: Pick<Config, 'retain' | 'retainSubscribers'>,
  kept: Kept,
): { stop(): void } {
  const { incidents, alerts, events, news, monitor, controller, log } = kept
  const prune = () => {
    const now = Date.now()
    const steps = [
      () => {
        const forgotten = incidents.prune(now - retain)
        if (forgotten > 0) log.info({ forgotten }, 'incidents older than state.retain are forgotten')
      },
      ...[kept.lapses, kept.baselines, kept.exemptions, alerts].map((one) => () => one.prune(now - retain)),
      () => kept.evidence.prune(now - retain, now),
      () => incidents.forgetSubscribers(now - retainSubscribers),
    ]
    for (const step of steps) {
      try {
        step()
      } catch (error) {
        // A full or read-only disk ends neither the service nor its start; there is a next time.
        log.error(
          { reason: (error as Error).message },
          'what is over cannot be forgotten; tried again in an hour',
        )
      }
    }
  }
  const tick = () => {
    events.tick()
    news.tick()
    alerts.tick(() => monitor.detector.open())
  }
  prune()
  const alive = watchdogInterval()
  const timers = [
    setInterval(tick, TICK_INTERVAL),
    setInterval(prune, PRUNE_INTERVAL),
    setInterval(() => void controller.keepForBoot(), KEEP_INTERVAL),
    ...(alive === null ? [] : [setInterval(() => notifySystemd('WATCHDOG=1'), alive)]),
  ]
  return {
    stop() {
      for (const timer of timers) clearInterval(timer)
    },
  }
}

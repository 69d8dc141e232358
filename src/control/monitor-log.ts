import type { Logger } from 'pino'
import { formatPrefix } from '../policy/prefix.ts'
import type { MonitorLog } from './monitor.ts'

/** What operators find in the log, a line each. */
export function monitorLog(log: Logger): MonitorLog {
  return {
    attempt: ({ source, sourcePort, destination, policy, verdict, uid, mac }) =>
      log.info(
        {
          source: formatPrefix(source),
          source_port: sourcePort,
          destination: formatPrefix(destination),
          policy,
          verdict,
          ...(uid === null ? {} : { uid }),
          ...(mac === null ? {} : { mac }),
        },
        'attempt',
      ),
    listening: () => log.info('listening for attempts'),
    deaf: (reason: string, restartIn: number) =>
      log.error({ reason, restart_in_ms: restartIn }, 'the event source ended; attempts are still counted'),
    drift: (what, change, healIn) =>
      log.error(
        { what, by: change, heal_in_ms: healIn },
        'the kernel did not hold our rules; they are being restored',
      ),
    missed: () =>
      log.warn('nftables was changed while nobody listened; the rules are written anew, to be sure'),
    blind: (reason, restartIn) =>
      log.error({ reason, restart_in_ms: restartIn }, 'changes by others are not heard of for a while'),
    unreadable: (error: Error) => log.error({ reason: error.message }, 'the kernel could not be asked'),
  }
}

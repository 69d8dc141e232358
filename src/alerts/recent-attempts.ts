/** What a channel may know of a machine's single attempts. */
import { parsePrefix } from '../policy/prefix.ts'
import type { AttemptLog } from '../store/attempts.ts'
import type { Attempt } from './channel.ts'

/** The latest first, of one of the machine's users when there is a uid; empty where nothing is remembered of it, or nothing can be read. */
export function recentAttempts(
  log: Pick<AttemptLog, 'recent'>,
  source: string,
  limit: number,
  uid?: number,
): readonly Attempt[] {
  const prefix = parsePrefix(source)
  if (typeof prefix === 'string') return []
  try {
    return log.recent({ source: prefix, limit, ...(uid === undefined ? {} : { uid }) }).map((attempt) => ({
      time: attempt.time,
      source: attempt.source,
      sourcePort: attempt.sourcePort,
      destination: attempt.destination,
    }))
  } catch {
    return []
  }
}

/** What a channel may know of a machine's single attempts. */
import { parsePrefix } from '../policy/prefix.ts'
import type { AttemptLog } from '../store/attempts.ts'
import type { Attempt } from './channel.ts'

/** The latest first; empty where nothing is remembered of it, or nothing can be read. */
export function recentAttempts(
  log: Pick<AttemptLog, 'recent'>,
  source: string,
  limit: number,
): readonly Attempt[] {
  const prefix = parsePrefix(source)
  if (typeof prefix === 'string') return []
  try {
    return log.recent({ source: prefix, limit }).map((attempt) => ({
      time: attempt.time,
      source: attempt.source,
      sourcePort: attempt.sourcePort,
      destination: attempt.destination,
    }))
  } catch {
    return []
  }
}

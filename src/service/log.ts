/** The log: JSON lines on standard output, which are never in anybody's way. */
import { type Logger, pino } from 'pino'

/** Bytes of lines that wait until they can be written. */
const MOST_WAITING = 1_048_576
/** Milliseconds until they are tried again where nothing else is said meanwhile. */
const PAUSE = 1_000

/** What became of what was written last. */
export interface LogOutput {
  /** null: lines are written. */
  readonly failure: Error | null
}

/**
 * A disk that is full, or a reader that stands still, costs the latest lines, and how many is said afterwards: left to
 * itself, pino throws at whoever wrote a line.
 */
export function openLog(gateway: string, fd: number = process.stdout.fd): { log: Logger; output: LogOutput } {
  const destination = pino.destination({ fd, sync: true, maxLength: MOST_WAITING, retryEAGAIN: () => false })
  const log = pino({ name: 'egress25', base: { gateway } }, destination)
  let failure: Error | null = null
  let dropped = 0
  let isDue = false
  destination.on('error', (error: Error) => {
    failure = error
    if (isDue) return
    isDue = true
    setTimeout(() => {
      isDue = false
      // What waits goes first.
      destination.write('')
    }, PAUSE).unref()
  })
  destination.on('drop', () => dropped++)
  destination.on('write', () => {
    failure = null
    if (dropped === 0) return
    const lines = dropped
    dropped = 0
    setImmediate(() =>
      log.warn({ lines }, 'the log could not be written for a while, and these lines are lost'),
    )
  })
  const output = {
    get failure() {
      return failure
    },
  }
  return { log, output }
}

/** The log: JSON lines on standard output, which are never in anybody's way. */
import { fstatSync } from 'node:fs'
import { type DestinationStream, type Logger, pino } from 'pino'

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
 *
 * Where it goes to the journal (systemd.exec(5), JOURNAL_STREAM), each line begins with its priority as sd-daemon(3) has
 * it, which the journal takes off again: `journalctl -p warning` finds what it should.
 */
export function openLog(gateway: string, fd: number = process.stdout.fd): { log: Logger; output: LogOutput } {
  const destination = pino.destination({ fd, sync: true, maxLength: MOST_WAITING, retryEAGAIN: () => false })
  const options = { name: 'egress25', base: { gateway } }
  const log = pino(options, isJournal(fd) ? withPriority(destination) : destination)
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

function withPriority(destination: DestinationStream): DestinationStream {
  const prefixed = {
    // So that pino says the level of each line beside it.
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 0,
    write(line: string): void {
      destination.write(`<${priorityOf(prefixed.lastLevel)}>${line}`)
    },
  }
  return prefixed
}

/** syslog(3)'s priority for a level of pino. */
function priorityOf(level: number): number {
  if (level >= 60) return 2
  if (level >= 50) return 3
  if (level >= 40) return 4
  return level >= 30 ? 6 : 7
}

function isJournal(fd: number): boolean {
  const { dev, ino } = fstatSync(fd)
  return process.env['JOURNAL_STREAM'] === `${dev}:${ino}`
}

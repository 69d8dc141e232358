/**
 * Attempts in detail, from the kernel's log socket by way of tcpdump. It is started again whenever it ends, with
 * growing pauses: what happens meanwhile is counted by the kernel and shows up as lost.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { programEnvironment } from '../kernel/process.ts'
import type { Attempt } from './attempt.ts'
import { decodeAttempt } from './decode-attempt.ts'
import { interfaceNames } from './interface-names.ts'
import { PcapDecoder, type PcapRecord } from './pcap.ts'

export interface EventSourceOptions {
  readonly nflogGroup: number
  readonly onAttempt: (attempt: Attempt) => void
  /** It ended, with the reason; it will be started again in so many milliseconds. */
  readonly onEnd: (reason: string, restartIn: number) => void
  readonly onListening: () => void
}

export interface EventSource {
  /** Whether tcpdump is listening now. */
  readonly listening: boolean
  stop(): void
}

const FIRST_PAUSE = 200
const LONGEST_PAUSE = 10_000
/**
 * KiB of packets' records that may wait while a busy machine does not come round to reading them. The kernel gives what
 * `net.core.rmem_max` allows, and by itself no more than two hundred records.
 */
const BUFFER = 32_768
/** After so long a healthy run the next pause is the first one again. */
const HEALTHY = 30_000

export function startEventSource(options: EventSourceOptions): EventSource {
  let child: ChildProcess | null = null
  let timer: NodeJS.Timeout | null = null
  let listening = false
  let stopped = false
  let pause = FIRST_PAUSE

  const start = () => {
    const started = Date.now()
    const run = runTcpdump(options, () => {
      listening = true
      options.onListening()
    })
    child = run.child
    void run.ended.then((reason) => {
      listening = false
      child = null
      if (stopped) return
      if (Date.now() - started > HEALTHY) pause = FIRST_PAUSE
      options.onEnd(reason, pause)
      timer = setTimeout(start, pause)
      pause = Math.min(pause * 2, LONGEST_PAUSE)
    })
  }
  start()
  return {
    get listening() {
      return listening
    },
    stop() {
      stopped = true
      if (timer !== null) clearTimeout(timer)
      child?.kill('SIGTERM')
    },
  }
}

function runTcpdump({ nflogGroup, onAttempt }: EventSourceOptions, onListening: () => void) {
  // One listener to a group: a tcpdump that outlived a killed service would lock out the next one.
  // As root it would become another user, and with that forget when it is to die.
  const user = process.geteuid?.() === 0 ? ['-Z', 'root'] : []
  const capture = ['-i', `nflog:${nflogGroup}`, '-B', String(BUFFER), '-n', '-U', '-w', '-']
  const args = ['--pdeathsig', 'KILL', 'tcpdump', ...user, ...capture]
  const child = spawn('setpriv', args, { env: programEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] })
  const decoder = new PcapDecoder()
  const nameInterface = interfaceNames(() => performance.now())
  let complaint = ''
  let fault: string | null = null
  child.stdout.on('data', (chunk: Buffer) => {
    if (fault !== null) return
    let records: PcapRecord[]
    try {
      records = decoder.push(chunk)
    } catch (error) {
      fault = `its stream is damaged: ${(error as Error).message}`
      child.kill('SIGKILL')
      return
    }
    for (const record of records) {
      const attempt = decodeAttempt(record, nameInterface)
      if (attempt !== null) onAttempt(attempt)
    }
  })
  child.stderr.on('data', (chunk: Buffer) => {
    const text = chunk.toString('utf8')
    if (text.includes('listening on')) onListening()
    else complaint = (complaint + text).slice(-500)
  })
  const ended = new Promise<string>((resolve) => {
    child.on('error', (error: NodeJS.ErrnoException) =>
      resolve(
        error.code === 'ENOENT' ? 'tcpdump is not installed: install the package tcpdump' : error.message,
      ),
    )
    child.on('close', (code, signal) => {
      const words = /failed to execute tcpdump/.test(complaint)
        ? 'tcpdump is not installed: install the package tcpdump'
        : (complaint.trim().split('\n')[0] ?? '')
      resolve(fault ?? (words !== '' ? words : `it ended ${signal ?? `with status ${code}`}`))
    })
  })
  return { child, ended }
}

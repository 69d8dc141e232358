/**
 * Hears of every change to our table, and whose it was.
 *
 * nf_tables announces its transactions to a netlink multicast group. `nft monitor` would print them, but reads all
 * elements of all tables before it says a word: at a million, 17 s and 650 MB. So socat(1) passes on the kernel's
 * messages as they are. What the kernel learns by itself from packets is never told, so all that comes is either ours
 * or somebody else's.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as wait } from 'node:timers/promises'
import type { Generation } from './generation.ts'
import { NftEventDecoder } from './nft-events.ts'
import type { OwnChanges } from './own-changes.ts'
import { programEnvironment } from './process.ts'

export interface ForeignChange {
  readonly pid: number
  readonly program: string
  /** The first thing it did, in nft's words. */
  readonly what: string
  readonly damage: Damage
}

/** How much of our table somebody changed: rules of chains (or a chain that went), or anything else. */
export type Damage = 'rules' | 'everything'

export interface ChangeMonitorOptions {
  /** Is told of each transaction. */
  readonly generation: Generation
  readonly own: OwnChanges
  readonly onForeignChange: (change: ForeignChange) => void
  /** There were changes while nobody listened, to our table or to others. */
  readonly onMissed: () => void
  /** It ended, with the reason, and will be started again in so many milliseconds. */
  readonly onEnd: (reason: string, restartIn: number) => void
}

export interface ChangeMonitor {
  stop(): void
}

const PAUSE = 1_000
/** What setpriv(1) ends with when there is no such program. */
const NOT_FOUND = 127

/** AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER; and sockaddr_nl after its family: padding, no port, group NFTABLES (7). */
const SOCKET = 'SOCKET-RECV:16:3:12:x00000000000040000000'

/**
 * Bytes that the kernel is asked to keep for us, of which net.core.rmem_max allows its part: what a large change of our
 * own announces should not drown another's. When it does, socat ends, and starts anew.
 */
const BUFFER = 16 * 1024 * 1024

/** What socat says, asked to be talkative, when it has bound its socket. */
const LISTENING = 'starting data transfer loop'
/** Looks, and milliseconds before each: what the kernel sent before it was asked must have been read. */
const LOOKS = 3
const SETTLE = 100

export function startChangeMonitor(options: ChangeMonitorOptions): ChangeMonitor {
  const { generation, own, onForeignChange, onMissed, onEnd } = options
  let child: ChildProcess | null = null
  let timer: NodeJS.Timeout | null = null
  let stopped = false

  const start = () => {
    const socat = ['socat', '-d', '-d', '-u', '-b', '1048576', `${SOCKET},so-rcvbuf=${BUFFER}`, 'STDOUT']
    const process_ = spawn('setpriv', ['--pdeathsig', 'KILL', ...socat], {
      env: programEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    child = process_
    const decoder = new NftEventDecoder()
    process_.stdout.on('data', (bytes: Buffer) => {
      try {
        for (const { pid, program, what, rulesOnly } of decoder.decode(bytes)) {
          if (own.claim(pid, program)) continue
          generation.doubt()
          onForeignChange({ pid, program, what, damage: rulesOnly ? 'rules' : 'everything' })
        }
        if (decoder.generation !== null) generation.heard(decoder.generation)
      } catch {
        process_.kill('SIGKILL')
      }
    })
    process_.stderr.on('data', (words: Buffer) => {
      if (!words.includes(LISTENING)) return
      own.forgetUnheard()
      void hasMissed(generation).then((missed) => {
        if (missed && child === process_) onMissed()
      })
    })
    process_.on('error', () => {})
    process_.on('close', (code, signal) => {
      child = null
      if (stopped) return
      const missing = code === NOT_FOUND ? ': install the package socat' : ''
      onEnd(`socat ended ${signal ?? `with status ${code}`}${missing}`, PAUSE)
      timer = setTimeout(start, PAUSE)
    })
  }
  start()
  return {
    stop() {
      stopped = true
      if (timer !== null) clearTimeout(timer)
      child?.kill('SIGKILL')
    },
  }
}

async function hasMissed(generation: Generation): Promise<boolean> {
  for (let look = 0; look < LOOKS; look++) {
    await wait(SETTLE)
    if (!(await generation.hasMoved())) return false
  }
  return true
}

/**
 * Hears of every change to our table, and whose it was, from `nft monitor`.
 *
 * Each transaction is a block of lines and a closing `# new generation 7 by process 4711 (nft)`. What the kernel
 * learns by itself from packets is never told, so all that comes is either ours or somebody else's.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { TABLE } from '../compile/nft-script.ts'
import { programEnvironment } from './process.ts'

export interface ForeignChange {
  readonly pid: number
  readonly program: string
  /** The first thing it did, as nft tells it. */
  readonly what: string
  readonly damage: Damage
}

/** How much of our table somebody changed: rules of chains (or a chain that went), or anything else. */
export type Damage = 'rules' | 'everything'

export interface ChangeMonitorOptions {
  /** Whether a process is one that we started. */
  readonly isOurs: (pid: number) => boolean
  readonly onForeignChange: (change: ForeignChange) => void
  /** It ended, with the reason, and will be started again in so many milliseconds. */
  readonly onEnd: (reason: string, restartIn: number) => void
}

export interface ChangeMonitor {
  stop(): void
}

const PAUSE = 1_000
const MAX_WORDS = 200
/** What can be put right by writing all rules anew. */
const OF_RULES = /^(?:(?:add|insert|replace|delete) rule|delete chain) /
/** After these nft 1.0.6 no longer knows sets that are there, and is silent about their elements: it must start anew. */
const BLINDING = /^(?:add table|delete rule) /
const OURS = new RegExp(` ${TABLE}(?: |$)`)
const GENERATION = /^# new generation \d+ by process (\d+) \((.*)\)$/

export function startChangeMonitor({ isOurs, onForeignChange, onEnd }: ChangeMonitorOptions): ChangeMonitor {
  let child: ChildProcess | null = null
  let timer: NodeJS.Timeout | null = null
  let stopped = false

  const start = () => {
    // nft 1.0.6 reads every element of the table at its start: nobody waits for that.
    const args = ['--pdeathsig', 'KILL', 'nice', '-n', '10', 'nft', 'monitor']
    const process_ = spawn('setpriv', args, {
      env: programEnvironment(),
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    child = process_
    let renewed = false
    let touched: string | null = null
    let damage: Damage = 'rules'
    createInterface({ input: process_.stdout }).on('line', (line) => {
      const generation = GENERATION.exec(line)
      if (generation === null) {
        if (OURS.test(line)) {
          touched ??= line.slice(0, MAX_WORDS)
          if (BLINDING.test(line)) renewed = true
          if (!OF_RULES.test(line)) damage = 'everything'
        }
        return
      }
      const pid = Number(generation[1])
      if (touched !== null && !isOurs(pid))
        onForeignChange({ pid, program: generation[2] ?? '', what: touched, damage })
      if (renewed) process_.kill('SIGKILL')
      touched = null
      damage = 'rules'
    })
    process_.on('error', () => {})
    process_.on('close', (code, signal) => {
      child = null
      if (stopped) return
      if (renewed) start()
      else {
        onEnd(`nft monitor ended ${signal ?? `with status ${code}`}`, PAUSE)
        timer = setTimeout(start, PAUSE)
      }
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

// Frames put on the lab's cables by hand, and what came out of them where: the far side of wire-worker.py.
//
// It is exact where connections are not: every packet is sent once, and one that was dropped is known to be dropped as
// soon as a later one has arrived, so nobody waits for time to run out.
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Lab } from './lab.ts'
import type { Side } from './topology.ts'

/** Where frames are seen: as they arrive at a side, or (`gateway`) as they arrive in the gateway from the subscribers. */
export type Tap = Side | 'gateway'

/** A connection that a program on the gateway itself tries to make, with one SYN, as a user. */
export interface Local {
  readonly from: string
  /** Names the connection, so it must be another one each time. */
  readonly sport: number
  readonly to: string
  readonly port: number
  readonly uid: number
}

export type Step = { readonly side: Side; readonly frame: Buffer } | { readonly local: Local }

export interface Exchange {
  /** Milliseconds since the epoch, before the first packet was sent and after the last had arrived. */
  readonly before: number
  readonly after: number
  /** In the order of their arrival at each place. */
  readonly arrived: readonly { readonly at: Tap; readonly frame: Buffer }[]
  /** What became of each local connection that is not closed: `connected`, `waiting`, or the name of an error. */
  readonly local: ReadonlyMap<number, string>
}

export interface Wire {
  /**
   * Sends everything in its order, then `last` from the subscribers' side, which nothing may block and which must come
   * to the internet's side with these bytes at its end; answers what had arrived anywhere by then.
   */
  exchange(steps: readonly Step[], last: Buffer): Promise<Exchange>
  /** Closes those of the local connections that are open before the next exchange, with a reset to who answered. */
  forget(sports: readonly number[]): void
}

/** The last bytes by which the last frame of an exchange is known. */
const MARK_BYTES = 8

/** Starts the worker. It ends with the lab. */
export async function openWire(lab: Lab): Promise<Wire> {
  const script = fileURLToPath(new URL('wire-worker.py', import.meta.url))
  const taps = [
    `subscribers=${lab.subscribers}/up0`,
    `relays=${lab.relays}/up0`,
    `internet=${lab.internet}/up0`,
    `gateway=${lab.gateway}/inside0`,
  ]
  // Debian's own, whatever else is in the PATH.
  const argv = ['/usr/bin/python3', '-IS', script, lab.gateway, ...taps]
  const child = lab.spawn(lab.gateway, argv, { stdio: ['pipe', 'pipe', 'pipe'] })
  const { stdin, stdout, stderr } = child
  if (!stdin || !stdout || !stderr) throw new Error('the wire needs pipes')
  let complaint = ''
  let waiting: { resolve(line: string): void; reject(error: Error): void } | null = null
  let over: Error | null = null
  const end = (why: string) => {
    over = new Error(`wire-worker.py ${why}. ${complaint.trim()}`)
    waiting?.reject(over)
  }
  stdin.on('error', () => {}) // it has ended; `exit` says so
  stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2_000)
  })
  child.once('error', (error) => end(`did not start: ${error.message}`))
  child.once('close', (code, signal) => end(`ended (${signal ?? code})`))
  createInterface({ input: stdout }).on('line', (line) => waiting?.resolve(line))

  const ask = (order: object) =>
    new Promise<string>((resolve, reject) => {
      if (over) return reject(over)
      waiting = { resolve, reject }
      stdin.write(`${JSON.stringify(order)}\n`)
    })
  const closing: number[] = []
  return {
    async exchange(steps, last) {
      const send = steps.map((step) =>
        'local' in step ? [null, step.local] : [step.side, step.frame.toString('base64')],
      )
      const mark = last.subarray(-MARK_BYTES).toString('hex')
      const answer = JSON.parse(
        await ask({
          close: closing.splice(0),
          send: [...send, ['subscribers', last.toString('base64')]],
          until: ['internet', mark],
        }),
      )
      if (answer.error !== undefined) throw new Error(`wire-worker.py: ${answer.error}`)
      return {
        before: answer.before,
        after: answer.after,
        arrived: answer.arrived.map(([at, frame]: [Tap, string]) => ({
          at,
          frame: Buffer.from(frame, 'base64'),
        })),
        local: new Map(Object.entries<string>(answer.local).map(([sport, how]) => [Number(sport), how])),
      }
    },
    forget: (sports) => void closing.push(...sports),
  }
}

// The side of a worker that stays outside: starts the script and calls its handlers, a JSON line each way.
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** What a worker can be asked: each handler takes one JSON value and answers one, or a promise of one. */
export type Handlers = Readonly<Record<string, (question: never) => unknown>>

export interface Worker<H extends Handlers> {
  /** Asks the worker; fails with its error, or when it ends before it has answered. */
  call<K extends keyof H & string>(name: K, ...question: Parameters<H[K]>): Promise<Awaited<ReturnType<H[K]>>>
  /** Listens to what the worker tells unasked; see `tell` in worker.ts. */
  onTold(listener: (name: string, what: unknown) => void): void
  /** Lets the worker end, and waits until it has. */
  close(): Promise<void>
}

interface Waiting {
  resolve(answer: never): void
  reject(error: Error): void
}

type Start = (argv: string[], stdio: ['pipe', 'pipe', 'pipe']) => ChildProcess

/** Starts `script` with this same Node, through `start`. */
export function openWorker<H extends Handlers>(start: Start, script: URL): Worker<H> {
  const child = start([process.execPath, fileURLToPath(script)], ['pipe', 'pipe', 'pipe'])
  const { stdin, stdout, stderr } = child
  if (!stdin || !stdout || !stderr) throw new Error('a worker needs pipes')
  const waiting = new Map<number, Waiting>()
  const listeners: ((name: string, what: unknown) => void)[] = []
  let calls = 0
  let complaint = ''
  let over: Error | undefined

  const end = (why: string) => {
    over = new Error(`worker ${script.pathname.split('/').at(-1)} ${why}. ${complaint.trim()}`)
    for (const { reject } of waiting.values()) reject(over)
    waiting.clear()
  }
  stdin.on('error', () => {}) // it has ended; `exit` says so
  stderr.on('data', (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2_000)
  })
  child.once('error', (error) => end(`did not start: ${error.message}`))
  child.once('exit', (code, signal) => end(`ended (${signal ?? code})`))
  createInterface({ input: stdout }).on('line', (line) => {
    const message = JSON.parse(line)
    if (message.told !== undefined) {
      for (const listener of listeners) listener(message.told, message.what)
      return
    }
    const asked = waiting.get(message.id)
    waiting.delete(message.id)
    if (message.error === undefined) asked?.resolve(message.answer as never)
    else asked?.reject(new Error(message.error))
  })

  return {
    call(name, ...question) {
      return new Promise((resolve, reject) => {
        if (over) return reject(over)
        const id = ++calls
        waiting.set(id, { resolve, reject })
        stdin.write(`${JSON.stringify({ id, name, question: question[0] })}\n`)
      })
    },
    onTold: (listener) => void listeners.push(listener),
    close() {
      if (over) return Promise.resolve()
      const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
      stdin.end()
      return gone
    },
  }
}

// The side of a worker that runs inside a namespace: one JSON line in, one JSON line out, in any order.
import { createInterface } from 'node:readline'
import type { Handlers } from './worker-host.ts'

/** Answers calls until the other side closes its pipe, which it does even when it is killed. */
export function serve(handlers: Handlers): void {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', async (line) => {
    const { id, name, question } = JSON.parse(line)
    try {
      const handler = handlers[name]
      if (!handler) throw new Error(`no such handler: ${name}`)
      say({ id, answer: await handler(question as never) })
    } catch (error) {
      say({ id, error: error instanceof Error ? error.message : String(error) })
    }
  })
  lines.on('close', () => process.exit(0))
  // Ctrl-C in a terminal is for the process that started us; it ends us when it is done.
  process.on('SIGINT', () => {})
}

/** Tells the other side something it did not ask for. */
export function tell(told: string, what: unknown): void {
  say({ told, what })
}

function say(message: unknown): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

/**
 * Requests that start programs take turns: a few at a time, the others in the order in which they came, and beyond a
 * line of those 429. Without that, whoever may read could start as many programs as it sends requests, and the kernel
 * would be asked too late by those that look after the rules.
 */
import type { RouteHandlerMethod } from 'fastify'
import type { Api } from '../route.ts'
import { ApiError } from './problem.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** It is not answered from memory. */
    readonly startsPrograms?: true
  }
}

const AT_ONCE = 4
const MOST_WAITING = 100

/** To be called before there are routes. */
export function takeTurns(app: Api): void {
  const turns = new Turns()
  const wrapped = new WeakSet<RouteHandlerMethod>()
  app.addHook('onRoute', (route) => {
    const { handler, config } = route
    // That of HEAD is the one of GET.
    if (config?.startsPrograms !== true || wrapped.has(handler)) return
    route.handler = async function (request, reply) {
      const mayGoOn = turns.enter()
      if (mayGoOn === null) {
        // There are many such refusals, if any.
        request.isRepeated = true
        reply.header('retry-after', 1)
        throw new ApiError('too-many-requests', `${MOST_WAITING} requests of this sort wait already`)
      }
      await mayGoOn
      try {
        return await handler.call(this, request, reply)
      } finally {
        turns.leave()
      }
    }
    wrapped.add(route.handler)
  })
}

class Turns {
  #running = 0
  readonly #waiting: (() => void)[] = []

  /** Resolves when it may go on; null: too many wait. */
  enter(): Promise<void> | null {
    if (this.#running < AT_ONCE) {
      this.#running++
      return Promise.resolve()
    }
    if (this.#waiting.length >= MOST_WAITING) return null
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** The next one takes its place. */
  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running--
    else next()
  }
}

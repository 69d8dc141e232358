// HTTP inside a namespace of the lab: a client, and a receiver of signed webhooks.
import type { Answer, Delivery, HttpHandlers } from './http-worker.ts'
import type { Lab } from './lab.ts'

export type { Answer, Delivery } from './http-worker.ts'

export interface Http {
  /** One request; fails only when no answer comes within 10 s. A `body` is sent as JSON. */
  ask(
    method: string,
    url: string,
    options?: { body?: unknown; headers?: Record<string, string> },
  ): Promise<Answer>
  /** Waits until a URL answers 200; fails after `timeoutMs`. */
  untilOk(url: string, timeoutMs: number): Promise<void>
  /** Takes webhooks on a port of 127.0.0.1, checks their signature, and answers 204 or 401. */
  receive(port: number, secret: string, onDelivery: (delivery: Delivery) => void): Promise<void>
}

/** Starts an HTTP worker inside a namespace. */
export function openHttp(lab: Lab, namespace: string): Http {
  const worker = lab.worker<HttpHandlers>(namespace, new URL('http-worker.ts', import.meta.url))
  return {
    ask: (method, url, { body = null, headers = {} } = {}) =>
      worker.call('ask', { method, url, headers, body, timeoutMs: 60_000 }),
    untilOk: (url, timeoutMs) => worker.call('untilOk', { url, timeoutMs }),
    receive(port, secret, onDelivery) {
      worker.onTold((name, what) => {
        if (name === 'delivery') onDelivery(what as Delivery)
      })
      return worker.call('receive', { port, secret })
    },
  }
}

/** What is posted for a message; each shape of webhook makes one. */
import type { Message } from '../message.ts'

export interface HttpRequest {
  readonly url: string
  /** JSON. */
  readonly body: object
  readonly headers?: Readonly<Record<string, string>>
}

export interface Receiver {
  readonly url: string
  /** What the receiver knows us by, where it is no part of the URL; else empty. */
  readonly token: string
}

export type Shape = (message: Message, receiver: Receiver) => HttpRequest

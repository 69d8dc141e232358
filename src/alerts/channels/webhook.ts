/** Posts messages to a URL as JSON, signed. */
import { Type } from 'typebox'
import { type Channel, channelType, PermanentError, RetryableError } from '../channel.ts'
import type { Message } from '../message.ts'
import { retryAfterSeconds } from '../retry-after.ts'
import { sign } from '../signature.ts'

export const webhook = channelType({
  type: 'webhook',
  fields: {
    url: Type.String({ format: 'http-url', minLength: 1, maxLength: 2_000 }),
    secret_file: Type.Optional(Type.String({ format: 'absolute-path', minLength: 1, maxLength: 500 })),
  },
  async open({ name, url, secret_file }, { readSecret }): Promise<Channel> {
    const secret = secret_file === undefined ? null : await readSecret(secret_file)
    return {
      name,
      type: 'webhook',
      deliver: ({ key, body }, signal) => post({ url, secret }, { key, body }, signal),
    }
  },
})

/** What the receiver will not take any better the next time. 408, 425 and 429 are about time, 401 to 404 get mended. */
const PERMANENT = new Set([400, 405, 406, 409, 410, 411, 413, 414, 415, 421, 422, 431, 451])

async function post(
  { url, secret }: { readonly url: string; readonly secret: string | null },
  { key, body }: Pick<Message, 'key' | 'body'>,
  signal: AbortSignal,
): Promise<void> {
  const text = JSON.stringify(body)
  const response = await fetch(url, {
    method: 'POST',
    body: text,
    redirect: 'manual',
    signal,
    headers: {
      'content-type': 'application/json',
      'user-agent': 'egress25',
      'idempotency-key': key,
      ...(secret === null ? {} : { 'egress25-signature': sign(text, secret, Date.now()) }),
    },
  }).catch((error: Error & { cause?: Error }) => {
    throw new RetryableError(error.cause?.message ?? error.message)
  })
  // The body says nothing that we need, and must not be left dangling.
  await response.body?.cancel()
  const { status, headers } = response
  if (response.ok) return
  const message = `the receiver answered ${status}`
  if (PERMANENT.has(status)) throw new PermanentError(message)
  throw new RetryableError(message, retryAfterSeconds(headers.get('retry-after'), Date.now()))
}

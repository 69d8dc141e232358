/** Posts a message to a URL. */
import { sign } from './signature.ts'

export interface Webhook {
  readonly url: string
  readonly secret: string | null
}

const TIMEOUT = 10_000

/**
 * Delivers one message; the key lets the receiver know a repetition.
 * @throws Error when there is no answer in time, or one that is not 2xx
 */
export async function postWebhook(
  { url, secret }: Webhook,
  { body, key }: { body: string; key: string },
): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    body,
    redirect: 'error',
    signal: AbortSignal.timeout(TIMEOUT),
    headers: {
      'content-type': 'application/json',
      'user-agent': 'egress25',
      'idempotency-key': key,
      ...(secret === null ? {} : { 'egress25-signature': sign(body, secret, Date.now()) }),
    },
  })
  // The body says nothing that we need, and must not be left dangling.
  await response.body?.cancel()
  if (!response.ok) throw new Error(`the receiver answered ${response.status}`)
}

/** By which id a request is found again in logs, in the audit and in the history of changes. */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** What a client may call its request. */
const FORM = /^[A-Za-z0-9._:-]{1,64}$/

/** Random for each start of the service, and counted on from there: no two requests of a gateway have the same. */
const START = randomBytes(5).toString('hex')
let count = 0

/** The client's own `x-request-id`, where it has a fit one, else a new one. */
export function requestId({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && FORM.test(given) ? given : `${START}-${++count}`
}

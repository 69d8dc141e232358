/** Lets a receiver tell our messages from anybody else's, and an old one from a new one. */
import { createHmac } from 'node:crypto'

/** The value of `Egress25-Signature`: `t=UNIX,v1=HEX`, an HMAC-SHA256 (RFC 2104) over `t.body`. `now` in milliseconds. */
export function sign(body: string, secret: string, now: number): string {
  const time = Math.floor(now / 1000)
  const hex = createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')
  return `t=${time},v1=${hex}`
}

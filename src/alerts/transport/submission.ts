/**
 * Hands mail to a relay as people do: over TLS and with a login, on the ports for submission (RFC 6409, RFC 8314). Never on
 * port 25, which is what egress25 closes.
 */
import { isIP } from 'node:net'
import SMTPConnection from 'nodemailer/lib/smtp-connection'
import { PermanentError, RetryableError } from '../channel.ts'
import { withoutControls } from '../formats/syslog.ts'
import { redacted, type Secret } from './secret.ts'
import type { SubmissionConfig } from './submission-fields.ts'

export interface Mail {
  readonly from: string
  readonly to: readonly string[]
  /** As it goes over the wire, headers and all. */
  readonly bytes: Buffer
}

export interface Relay {
  readonly config: SubmissionConfig
  /** What we call ourselves. */
  readonly name: string
  readonly ca: string | undefined
  readonly password: Secret | null
}

/** Failures after which another try is the relay's word: the rest of what goes wrong gets mended. */
const REFUSALS = new Set(['EENVELOPE', 'EMESSAGE'])

/**
 * Fulfils with those recipients that the relay will not have; it has taken the mail for the others.
 * @throws PermanentError when it refuses the mail, or all recipients; RetryableError for anything else
 */
export async function submit(mail: Mail, relay: Relay, signal: AbortSignal): Promise<readonly string[]> {
  const {
    host,
    port = 587,
    tls = port === 465 ? 'implicit' : 'starttls',
    server_name,
    username,
  } = relay.config
  const password = (await relay.password?.()) ?? ''
  const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>()
  const servername = server_name ?? (isIP(host) > 0 ? undefined : host)
  const connection = new SMTPConnection({
    host,
    port,
    secure: tls === 'implicit',
    requireTLS: true,
    ...(servername === undefined ? {} : { servername }),
    tls: { minVersion: 'TLSv1.2', ...(relay.ca === undefined ? {} : { ca: relay.ca }) },
    name: relay.name,
    allowInternalNetworkInterfaces: true,
  })
  const fail = (error: SMTPConnection.SMTPError | null | undefined) => {
    const code = error?.responseCode ?? 0
    const refused = REFUSALS.has(error?.code ?? '') && code >= 500 && code < 600
    const said = withoutControls(redacted(error?.message ?? 'the relay closed the connection', [password]))
    reject(new (refused ? PermanentError : RetryableError)(said.slice(0, 300)))
  }
  const abort = () => {
    reject(new RetryableError('the relay did not take it in time'))
    connection.close()
  }
  signal.addEventListener('abort', abort, { once: true })
  connection.on('error', fail)
  connection.on('end', () => fail(null))
  const send = () =>
    connection.send({ from: mail.from, to: [...mail.to] }, mail.bytes, (error, info) => {
      if (error !== null) return fail(error)
      resolve(info?.rejected ?? [])
      connection.quit()
    })
  connection.connect((error) => {
    if (error) return fail(error)
    if (username === undefined) return send()
    connection.login(
      { user: username, pass: password, credentials: { user: username, pass: password } },
      (refusal) => (refusal ? fail(refusal) : send()),
    )
  })
  if (signal.aborted) abort()
  return promise.finally(() => {
    signal.removeEventListener('abort', abort)
    // What it says after it has taken the mail is of no interest.
    connection.on('error', () => {})
  })
}

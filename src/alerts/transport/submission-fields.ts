/** How a relay is configured, for all channels that send mail. */
import { isIP } from 'node:net'
import { type Static, Type } from 'typebox'

const name = () => Type.Optional(Type.String({ format: 'text', minLength: 1, maxLength: 253 }))
const file = () => Type.Optional(Type.String({ format: 'absolute-path', minLength: 1, maxLength: 500 }))

export const SUBMISSION_FIELDS = {
  host: Type.String({ format: 'text', minLength: 1, maxLength: 253 }),
  port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  tls: Type.Optional(Type.Enum(['starttls', 'implicit'])),
  server_name: name(),
  username: name(),
  password_file: file(),
  ca_file: file(),
  from: Type.String({ format: 'mail-address', minLength: 3, maxLength: 254 }),
}

const SubmissionSchema = Type.Object(SUBMISSION_FIELDS)
export type SubmissionConfig = Static<typeof SubmissionSchema>

/** What the fields say together that they must not; null when they are sound. */
export function submissionFault({
  port,
  server_name,
  username,
  password_file,
}: SubmissionConfig): string | null {
  if (port === 25)
    return 'port 25 is for mail between servers, and what egress25 keeps closed: use port 587 of a relay, or 465'
  if ((username === undefined) !== (password_file === undefined))
    return 'username and password_file belong together'
  return server_name !== undefined && isIP(server_name) > 0
    ? 'server_name is a name; a certificate for an address is held against the host'
    : null
}

/** One address without a name (RFC 5321 §4.1.2, without quoted and literal forms), as an envelope and a header take it. */
export function isMailAddress(text: string): boolean {
  return (
    text.length <= 254 &&
    /^[a-zA-Z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}[a-zA-Z0-9])?)*$/.test(
      text,
    )
  )
}

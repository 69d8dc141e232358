/** One syslog message as RFC 5424 writes it, of bounded size, and its frame on a stream. */

/** RFC 5424 §6.2.1; those that operators choose among. */
export const FACILITIES = {
  user: 1,
  daemon: 3,
  auth: 4,
  local0: 16,
  local1: 17,
  local2: 18,
  local3: 19,
  local4: 20,
  local5: 21,
  local6: 22,
  local7: 23,
} as const

export type Facility = keyof typeof FACILITIES

export interface SyslogMessage {
  readonly facility: Facility
  /** 0 emergency to 7 debug. */
  readonly severity: number
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly host: string
  readonly process: string
  /** The kind of message. */
  readonly id: string
  /** `name@enterprise` (RFC 5424 §6.3.2), and what is known by name, what matters most first. */
  readonly data: { readonly id: string; readonly parameters: readonly (readonly [string, string])[] }
  readonly text: string
  /** Whether the text says by a byte order mark that it is UTF-8, as §6.4 wants it; CEF must be the first that is read. */
  readonly mark: boolean
}

/** Enough for most of a sentence: structured data gives way before the text is cut further. */
const LEAST_TEXT = 200

/**
 * The message in at most `limit` bytes. What does not fit goes: the end of the text, down to 200 bytes, then parameters
 * from the last, then more of the text. Characters are never cut apart.
 */
export function formatSyslog(message: SyslogMessage, limit: number): Buffer {
  const { facility, severity, time, host, process, id, data } = message
  const head = [
    `<${FACILITIES[facility] * 8 + severity}>1`,
    new Date(time).toISOString(),
    header(host, 255),
    'egress25',
    header(process, 128),
    header(id, 32),
  ].join(' ')
  const text = withoutControls(message.text)
  const mark = message.mark && /[^\x20-\x7e]/.test(text) ? '\ufeff' : ''
  const whole = Buffer.from(mark + text)
  const room = limit - Buffer.byteLength(head) - 2
  const least = Math.min(whole.length, LEAST_TEXT)
  const parameters = data.parameters.map(
    ([name, value]) => ` ${parameterName(name)}="${parameterValue(value)}"`,
  )
  const frame = Buffer.byteLength(data.id) + 2
  let used = frame + parameters.reduce((sum, one) => sum + Buffer.byteLength(one), 0)
  while (parameters.length > 0 && used + least > room) used -= Buffer.byteLength(parameters.pop() ?? '')
  const structured = parameters.length > 0 ? `[${data.id}${parameters.join('')}]` : '-'
  const rest = limit - Buffer.byteLength(head) - 2 - Buffer.byteLength(structured)
  return Buffer.concat([Buffer.from(`${head} ${structured} `), cut(whole, rest)])
}

/** Octet counting (RFC 6587 §3.4.1, RFC 5425 §4.3): the length, so that no character can end a message. */
export function frameSyslog(message: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${message.length} `), message])
}

/** Visible ASCII without spaces; a value that has none of it is nil. */
function header(value: string, longest: number): string {
  return value.replace(/[^\x21-\x7e]/g, '').slice(0, longest) || '-'
}

function parameterName(name: string): string {
  return name.replace(/[^\x21-\x7e]|[=\]"]/g, '').slice(0, 32) || '-'
}

/** RFC 5424 §6.3.3. */
function parameterValue(value: string): string {
  return withoutControls(value).replace(/["\\\]]/g, '\\$&')
}

/** Receivers write a line for each message: nobody shall be able to begin one. */
export function withoutControls(text: string): string {
  return text.toWellFormed().replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
}

/** As much of UTF-8 text as fits, ending with an ellipsis where something is missing. */
function cut(text: Buffer, limit: number): Buffer {
  if (text.length <= limit) return text
  const ellipsis = Buffer.from('…')
  let end = Math.max(0, limit - ellipsis.length)
  // A byte 10xxxxxx goes on with a character that began before it.
  while (end > 0 && ((text[end] ?? 0) & 0xc0) === 0x80) end--
  return end === 0 ? Buffer.alloc(0) : Buffer.concat([text.subarray(0, end), ellipsis])
}

/** One change of the policy directory, as it becomes one commit. Pure. */
import type { Caller } from '../caller.ts'

export interface Signature {
  readonly name: string
  readonly email: string
}

export interface ChangedFile {
  /** Relative to the policy directory, with `/`. */
  readonly path: string
  /** The id of what was there before; null: nothing was. */
  readonly before: string | null
  /** What is there now; null: it is gone. */
  readonly text: string | null
}

/** A change that was made, or is about to be. */
export interface ChangeRecord {
  /** Random, 32 hexadecimal digits: by it a commit is known again after a crash. */
  readonly id: string
  /** Milliseconds since the epoch. */
  readonly time: number
  readonly author: Signature
  /** One line, such as `exemption acme: added`. */
  readonly subject: string
  readonly reason: string | null
  readonly requestId: string | null
  /** The revision that this one takes back. */
  readonly reverts: string | null
  readonly files: readonly ChangedFile[]
}

export const TRAILERS = { request: 'Request-Id', change: 'Egress25-Change', reverts: 'Reverts' } as const

/** A reason is a paragraph or two, not a book. */
export const MAX_REASON = 2_000

/** A name that is an address of its own (noc@example.net) is one; other names are of this gateway. */
export function signatureOf({ name }: Pick<Caller, 'name'>, gateway: string): Signature {
  const clean = cleanLine(name).replace(/[<>]/g, '') || 'unknown'
  const isAddress = /^[^\s@]+@[^\s@]+$/.test(clean)
  const local = clean.replace(/[^A-Za-z0-9._+-]+/g, '-')
  return {
    name: clean,
    email: isAddress ? clean : `${local}@${cleanLine(gateway).replace(/[^A-Za-z0-9.-]+/g, '-')}`,
  }
}

/** The message of a commit: the subject, the reason, and in the last paragraph what programs read. */
export function messageOf({ subject, reason, requestId, reverts, id }: Omit<ChangeRecord, 'files'>): string {
  const trailers = [
    ...(reverts === null ? [] : [`${TRAILERS.reverts}: ${reverts}`]),
    ...(requestId === null ? [] : [`${TRAILERS.request}: ${cleanLine(requestId)}`]),
    `${TRAILERS.change}: ${id}`,
  ]
  const paragraphs = [
    cleanLine(subject),
    ...(reason === null ? [] : [cleanText(reason)]),
    trailers.join('\n'),
  ]
  return `${paragraphs.filter((text) => text !== '').join('\n\n')}\n`
}

/** As git-revert(1) calls it: what is taken back twice is there again. */
export function revertSubject(subject: string): string {
  const [, verb, of] = /^(Revert|Reapply) "(.*)"$/s.exec(subject) ?? []
  if (of === undefined) return `Revert "${subject}"`
  return verb === 'Revert' ? `Reapply "${of}"` : `Revert "${of}"`
}

function cleanLine(text: string): string {
  return text
    .replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
    .trim()
    .slice(0, MAX_REASON)
}

function cleanText(text: string): string {
  return text.split('\n').map(cleanLine).join('\n').trim().slice(0, MAX_REASON)
}

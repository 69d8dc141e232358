/** Why somebody changes something: the header `Egress25-Reason`, UTF-8 as it is or percent-encoded. */
import { Type } from 'typebox'
import { MAX_REASON } from '../../history/change-record.ts'
import { ApiError } from '../http/problem.ts'

export const ReasonHeader = Type.Object({
  'egress25-reason': Type.Optional(
    Type.String({
      maxLength: 3 * MAX_REASON,
      description: `why, for the history: UTF-8, percent-encoded where a client must; at most ${MAX_REASON} characters`,
    }),
  ),
})

/** @throws ApiError */
export function reasonOf(headers: Readonly<Record<string, string | string[] | undefined>>): string | null {
  const written = headers['egress25-reason']
  if (typeof written !== 'string' || written.trim() === '') return null
  // Node reads headers as Latin-1, whatever they are.
  let text = Buffer.from(written, 'latin1').toString('utf8')
  try {
    text = /%[0-9a-f]{2}/i.test(text) ? decodeURIComponent(text) : text
  } catch {
    throw new ApiError('bad-request', 'Egress25-Reason is not percent-encoded UTF-8')
  }
  text = text.trim()
  if (text.length > MAX_REASON || text.includes('\ufffd') || /[^\P{Cc}\n]/u.test(text))
    throw new ApiError(
      'bad-request',
      `Egress25-Reason must be at most ${MAX_REASON} characters of UTF-8 text`,
    )
  return text
}

/** What clients say about the version of a document that they mean to change (RFC 9110 §13.1, RFC 6585 §3). */
import type { Document } from '../policy/schema.ts'
import { etagOf, namesExactly } from './etag.ts'
import { ApiError } from './problem.ts'

type Headers = Readonly<Record<string, string | string[] | undefined>>

/** Nobody replaces what they have not seen. @throws ApiError */
export function checkPut(headers: Headers, current: Document | null): void {
  if (headers['if-none-match'] === '*') {
    if (current !== null)
      throw new ApiError('precondition-failed', `${current.kind} ${current.name} exists already`)
    return
  }
  if (headers['if-match'] !== undefined) {
    checkMatch(headers, current)
    return
  }
  if (current !== null) {
    throw new ApiError(
      'precondition-required',
      `${current.kind} ${current.name} exists; name its ETag in If-Match`,
    )
  }
}

/** @throws ApiError */
export function checkMatch(headers: Headers, current: Document | null): void {
  if (current === null || !namesExactly(headers['if-match'], etagOf(current))) {
    throw new ApiError('precondition-failed', 'the document is not the version that If-Match names')
  }
}

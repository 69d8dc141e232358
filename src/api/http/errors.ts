/** Turns whatever went wrong into a problem that a client can act on. */
import type { FastifyError } from 'fastify'
import { HalfMadeError } from '../../control/changes/carry-out.ts'
import { FileExistsError } from '../../control/changes/changes.ts'
import { DocumentError } from '../../control/changes/document-change.ts'
import { UnwritableError } from '../../control/changes/stage-change.ts'
import {
  FourEyesError,
  NoRequestError,
  ReasonRequiredError,
  RequestDecidedError,
} from '../../control/exemptions/exemption-requests.ts'
import { UnguardedError } from '../../control/trial/guard.ts'
import { ConfirmationPendingError, HeldError, NothingPendingError } from '../../control/trial/pending.ts'
import { OpenIncidentError } from '../../exemptions/infected-hosts.ts'
import {
  ConflictError,
  EditedByHandError,
  GitError,
  NoHistoryError,
  NoRevisionError,
  RewrittenError,
  UnchangeableError,
} from '../../history/history-error.ts'
import { SignersError } from '../../history/openpgp-keys.ts'
import { UnsignedError } from '../../history/signed.ts'
import { KernelError } from '../../kernel/kernel-error.ts'
import { DirectoryError } from '../../policy/files.ts'
import { NAME } from '../../policy/name.ts'
import { PolicyError } from '../../policy/policy-error.ts'
import { pointerTo } from '../../policy/shape.ts'
import { HistoryUnavailableError } from '../../store/attempts.ts'
import { isUnwritable } from '../../store/database.ts'
import { TokenExistsError, TooManyTokensError } from '../../store/tokens.ts'
import { LIMIT_PATTERN } from './page.ts'
import { ApiError, type ProblemCode } from './problem.ts'

/** What fits a pattern, in words. */
const PATTERNS: ReadonlyMap<string, string> = new Map([
  [NAME.source, 'must be a name: 1 to 48 of a-z, 0-9 and -, not starting with -'],
  [LIMIT_PATTERN, 'must be a number from 1 to 1000'],
])

/** Fastify's own refusals, by their codes. */
const FASTIFY: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
}

export function toApiError(error: FastifyError | Error): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof DocumentError) {
    return new ApiError('invalid-document', error.message, {
      errors: error.problems.map(({ pointer, code, message }) => ({ pointer, code, message })),
    })
  }
  if (error instanceof PolicyError) {
    const { diagnostics, failedTests } = error
    if (failedTests.length === 0) return new ApiError('invalid-policy', error.message, { diagnostics })
    const failures = failedTests.map(({ test, expectation, found }) => ({
      test,
      ...expectation.origin,
      expected: expectation.verdict,
      found,
    }))
    return new ApiError('policy-tests-failed', error.message, { failures })
  }
  if (error instanceof OpenIncidentError) {
    const incidents = error.incidents.map(({ id, kind, source, summary }) => ({ id, kind, source, summary }))
    return new ApiError('open-incident', error.message, { incidents })
  }
  if (error instanceof EditedByHandError || error instanceof ConflictError) {
    const code = error instanceof ConflictError ? 'history-conflict' : 'edited-by-hand'
    return new ApiError(code, error.message, { files: error.files })
  }
  if (error instanceof UnchangeableError)
    return new ApiError('file-unchangeable', error.message, { files: error.files })
  if (error instanceof RewrittenError) return new ApiError('history-conflict', error.message, { files: [] })
  if (error instanceof NoRequestError || error instanceof NoRevisionError)
    return new ApiError('not-found', error.message)
  if (error instanceof RequestDecidedError) return new ApiError('request-decided', error.message)
  if (error instanceof FourEyesError) return new ApiError('four-eyes', error.message)
  if (error instanceof ReasonRequiredError) return new ApiError('reason-required', error.message)
  if (error instanceof UnsignedError) return new ApiError('unsigned', error.message)
  if (error instanceof NoHistoryError) return new ApiError('no-history', error.message)
  if (error instanceof GitError || error instanceof SignersError)
    return new ApiError('history-failed', error.message)
  if (error instanceof FileExistsError) return new ApiError('file-exists', error.message)
  if (error instanceof UnwritableError) return new ApiError('policies-unwritable', error.message)
  if (error instanceof HalfMadeError) return new ApiError('half-made', error.message)
  if (error instanceof ConfirmationPendingError) return new ApiError('confirmation-pending', error.message)
  if (error instanceof NothingPendingError) return new ApiError('nothing-pending', error.message)
  if (error instanceof HeldError) return new ApiError('policies-held', error.message)
  if (error instanceof UnguardedError) return new ApiError('unguarded', error.message)
  if (error instanceof KernelError) return new ApiError('kernel-refused', error.message)
  if (error instanceof HistoryUnavailableError) return new ApiError('history-unavailable', error.message)
  if (error instanceof TokenExistsError) return new ApiError('token-exists', error.message)
  if (error instanceof TooManyTokensError) return new ApiError('too-many-tokens', error.message)
  if (error instanceof DirectoryError) return new ApiError('policies-unreadable', error.message)
  if (isUnwritable(error))
    return new ApiError('state-unwritable', `the database cannot be written: ${error.message}`)
  if ('validation' in error && error.validation !== undefined) {
    // A pointer into the body is one into what was sent, and a field that is not known is named.
    const place = error.validationContext === 'body' ? '' : `/${error.validationContext}`
    const errors = error.validation.map(({ instancePath, keyword, message = '', params }) => {
      const unknown = params['additionalProperty']
      const { allowedValues, pattern } = params as { allowedValues?: string[]; pattern?: string }
      const kinder =
        keyword === 'enum' ? `must be one of ${allowedValues?.join(', ')}` : PATTERNS.get(pattern ?? '')
      if (typeof unknown !== 'string') return { pointer: place + instancePath, message: kinder ?? message }
      return { pointer: pointerTo(place + instancePath, unknown), message: 'is not known' }
    })
    const detail = errors.map(({ pointer, message }) => `${pointer || 'the body'} ${message}`).join(', ')
    return new ApiError('bad-request', detail, { errors })
  }
  const { code, statusCode } = error as Partial<FastifyError>
  if (code === 'FST_ERR_MAX_PARAM_LENGTH')
    return new ApiError('bad-request', 'a part of the address is longer than anything here is called')
  const known = FASTIFY[code ?? '']
  if (known !== undefined) return new ApiError(known, error.message)
  if (statusCode !== undefined && statusCode < 500) return new ApiError('bad-request', error.message)
  return new ApiError('internal', 'the request failed for a reason that the log tells')
}

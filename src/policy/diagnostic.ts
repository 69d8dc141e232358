/** What is wrong with a policy directory, and where. */

/** Every code a diagnostic can carry, with what it means. The codes are stable: automation may rely on them. */
export const DIAGNOSTIC_CODES = {
  'unreadable-file': 'a file or folder could not be read',
  'file-too-large': 'a file is larger than the limit, or a directory holds too many files',
  'bad-encoding': 'a file is not UTF-8 text, or holds control characters',
  'yaml-syntax': 'the text is not YAML',
  'too-complex': 'the YAML nests too deeply, or its aliases expand too far',
  'duplicate-key': 'a mapping has the same key twice',
  'not-a-document': 'a YAML document is not a mapping with a kind',
  'unknown-kind': 'the kind is none of policy, relay, exemption, list and test',
  'unknown-key': 'a key that this kind of document does not have',
  'missing-key': 'a key that this kind of document must have',
  'wrong-type': 'a value of another type than the key takes',
  'bad-value': 'a value that is none of those the key takes',
  'bad-length': 'a text or a sequence that is too short or too long',
  'bad-name': 'a name that is not [a-z0-9][a-z0-9-]{0,47}',
  'bad-text': 'a text with control characters',
  'bad-prefix': 'not an IPv4 or IPv6 address or prefix',
  'host-bits': 'a prefix with bits set beyond its length',
  'bad-duration': 'not a duration like 30s, 5m, 1h or 7d',
  'bad-rate': 'not a rate like 30/minute',
  'bad-timestamp': 'not a time like 2026-12-31T00:00:00Z',
  'bad-user': 'not a name of a local user',
  'bad-path': 'a list file that is not a relative path inside the policy directory',
  'duplicate-name': 'two documents of one kind share a name',
  'duplicate-prefix': 'two policies govern the same prefix',
  'conflicting-rates': 'two exemptions with rates cover the same source and destination',
  'dangling-list': 'a reference to a list that does not exist',
  'dangling-relay': 'a reference to a relay that does not exist',
  'redirect-target': 'redirect_to and action: redirect do not fit together',
  'list-source': 'a list must have either prefixes or a file',
  'too-large': 'documents that would compile into too many elements',
  'expired-exemption': 'an exemption whose time has passed: it does nothing',
  'useless-exemption': 'an exemption for sources that no policy governs: it does nothing',
} as const

export type DiagnosticCode = keyof typeof DIAGNOSTIC_CODES

/** Warnings are shown and change nothing; an error keeps the whole directory from being applied. */
const WARNINGS: ReadonlySet<DiagnosticCode> = new Set(['expired-exemption', 'useless-exemption'])

export type Severity = 'error' | 'warning'

/** Where something stands; line and column count from 1, the column in UTF-16 units. */
export interface Origin {
  /** Relative to the policy directory. */
  readonly file: string
  readonly line: number
  readonly column: number
}

export interface Diagnostic extends Origin {
  readonly code: DiagnosticCode
  readonly severity: Severity
  readonly message: string
}

/** A fault in a document before anybody knows which file it came from: where it is as a JSON pointer (RFC 6901). */
export interface Problem {
  readonly pointer: string
  /** The key at the pointer is at fault, not its value. */
  readonly atKey?: boolean
  readonly code: DiagnosticCode
  readonly message: string
}

export function diagnostic(origin: Origin, code: DiagnosticCode, message: string): Diagnostic {
  const { file, line, column } = origin
  return { file, line, column, code, severity: WARNINGS.has(code) ? 'warning' : 'error', message }
}

export function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some(({ severity }) => severity === 'error')
}

/** In the order in which a reader meets them. */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  return [...diagnostics].sort(
    (a, b) => compare(a.file, b.file) || a.line - b.line || a.column - b.column || compare(a.code, b.code),
  )
}

/** `file:line:col: code: sentence`, as compilers write them and editors read them. */
export function formatDiagnostic({ file, line, column, code, severity, message }: Diagnostic): string {
  const note = severity === 'warning' ? 'warning: ' : ''
  return `${file}:${line}:${column}: ${code}: ${note}${message}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

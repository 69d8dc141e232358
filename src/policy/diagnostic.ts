/** What is wrong with a policy directory, and where. */

import { NAME_PATTERN } from './name.ts'

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
  'bad-name': `a name that is not ${NAME_PATTERN}`,
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
  'shadowed-exemption': 'an exemption for what another document allows in any case: it does nothing',
  'shadowed-policy': 'a policy that governs nobody, because others govern or allow all of its networks',
  'unreachable-relay': 'a relay with clients of whom none can submit to it as a governed host',
  'governed-relay': 'a relay with an address that a policy governs; it may send all the same',
  'everyone-governed': 'a policy for every address on a gateway that does not say what is outside',
} as const

export type DiagnosticCode = keyof typeof DIAGNOSTIC_CODES

/** Warnings and notes are shown and change nothing; an error keeps the whole directory from being applied. */
const SEVERITIES: Partial<Record<DiagnosticCode, Severity>> = {
  'expired-exemption': 'warning',
  'useless-exemption': 'warning',
  'shadowed-exemption': 'warning',
  'shadowed-policy': 'warning',
  'unreachable-relay': 'warning',
  'everyone-governed': 'warning',
  // Usual where relays live among the machines they serve, and worth knowing before the relay is removed.
  'governed-relay': 'note',
}

export type Severity = 'error' | 'warning' | 'note'

/** Where something stands; line and column count from 1, the column in UTF-16 units. */
export interface Origin {
  /** Relative to the policy directory. */
  readonly file: string
  readonly line: number
  readonly column: number
}

/** Where something stands, and where it ends: the end is the first place after it. */
export interface Range extends Origin {
  readonly end: { readonly line: number; readonly column: number }
}

export interface Diagnostic extends Origin {
  /** Absent where the whole document or file is meant. */
  readonly end?: Range['end']
  /** The line of the file that it speaks of. */
  readonly excerpt?: string
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

export function diagnostic(at: Origin | Range, code: DiagnosticCode, message: string): Diagnostic {
  const { file, line, column } = at
  const end = 'end' in at ? { end: at.end } : {}
  return { file, line, column, ...end, code, severity: SEVERITIES[code] ?? 'error', message }
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
  const note = severity === 'error' ? '' : `${severity}: `
  return `${file}:${line}:${column}: ${code}: ${note}${message}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

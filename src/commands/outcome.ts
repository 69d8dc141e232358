/** How commands end: exit statuses that scripts rely on, and one way to print. */
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostic.ts'
import { renderExcerpt } from '../policy/excerpt.ts'

export const EXIT = {
  done: 0,
  /** The answer is no: diagnostics, failed policy tests, drift. */
  no: 1,
  /** Wrong usage or configuration. */
  usage: 2,
  kernel: 3,
  unreachable: 4,
} as const

export type Exit = (typeof EXIT)[keyof typeof EXIT]

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function complain(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Such as `1 policy` and `2 policies`. */
export function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined))
}

/** To standard error, so that what a command prints can be piped on; with excerpts where a person reads them. */
export function complainOf(diagnostics: readonly Diagnostic[]): void {
  for (const line of diagnosticLines(diagnostics, process.stderr.isTTY)) complain(line)
}

/** One line for each, and with excerpts a few more below it. */
export function diagnosticLines(diagnostics: readonly Diagnostic[], excerpts: boolean): string[] {
  return diagnostics.flatMap((diagnostic) => {
    const excerpt = excerpts ? renderExcerpt(diagnostic) : ''
    return excerpt === '' ? [formatDiagnostic(diagnostic)] : [formatDiagnostic(diagnostic), excerpt]
  })
}

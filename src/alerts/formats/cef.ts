/** One line of ArcSight's Common Event Format, revision 25: a header between bars, then extensions by name. */
import { withoutControls } from './syslog.ts'

export interface CefEvent {
  readonly version: string
  /** What kind of event, for machines. */
  readonly classId: string
  /** The same for people. */
  readonly name: string
  /** 0 to 10. */
  readonly severity: number
  /** Names are of the format's dictionary: nothing checks them. */
  readonly extensions: readonly (readonly [string, string])[]
}

export function formatCef({ version, classId, name, severity, extensions }: CefEvent): string {
  const fields = ['CEF:0', 'egress25', 'egress25', version, classId, name, String(severity)]
  const header = fields.map((field, index) => (index === 0 ? field : headerField(field))).join('|')
  return `${header}|${extensions.map(([key, value]) => `${key}=${extensionValue(value)}`).join(' ')}`
}

/** A bar ends a field of the header, and a backslash escapes; lines do not exist there. */
function headerField(value: string): string {
  return withoutControls(value).replace(/[\\|]/g, '\\$&')
}

/** An equals sign ends a name, and a bar means nothing; lines are written as \n. */
function extensionValue(value: string): string {
  return value
    .toWellFormed()
    .replace(/[\\=]/g, '\\$&')
    .replace(/\r\n|[\r\n]/g, '\\n')
    .replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
}

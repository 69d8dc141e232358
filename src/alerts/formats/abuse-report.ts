/** An incident as abuse desks read it: a mail with a text for people, and the same for programs. */
import MimeNode from 'nodemailer/lib/mime-node'
import { arf } from './arf.ts'
import { commonHeaders, SAFE } from './mail.ts'
import { lines, type Report } from './report.ts'
import { xarf } from './xarf.ts'

const FORMATS = { arf, xarf } as const
export type ReportFormat = keyof typeof FORMATS

/** The mail as it goes over the wire; the same report always has the same headers. */
export function reportOf(report: Report, format: ReportFormat): Promise<Buffer> {
  const { message, envelope, text } = report
  const { type, parts, headers } = FORMATS[format](report)
  const root = new MimeNode(type, SAFE)
  root.setHeader({ ...commonHeaders(message, envelope), Subject: text.subject, ...headers })
  root.createChild('text/plain; charset=utf-8').setContent(lines(...text.lines, ''))
  for (const { type: kind, content, name } of parts) {
    const part = root.createChild(kind, name === null ? {} : { filename: name })
    part.setHeader('Content-Disposition', name === null ? 'inline' : `attachment; filename=${name}`)
    part.setContent(content)
  }
  return root.build()
}

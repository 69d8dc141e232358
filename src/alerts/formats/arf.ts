/** An abuse report as ARF (RFC 5965), with the source port of RFC 6692. */
import { VERSION } from '../../version.ts'
import { mailDate } from './mail.ts'
import { attemptLine, type Form, lines, type Report, reported } from './report.ts'

export function arf(report: Report): Form {
  const { incident, last, source, time } = reported(report)
  const fields = {
    'Feedback-Type': incident.kind === 'misconfigured-client' ? 'other' : 'abuse',
    'User-Agent': `egress25/${VERSION}`,
    Version: '1',
    'Arrival-Date': mailDate(time),
    'Source-IP': source,
    ...(last === null ? {} : { 'Source-Port': String(last.sourcePort) }),
    Incidents: String(incident.attempts),
  }
  // There is no mail to show: nothing was let through. The third part is for headers, and these are ours.
  const evidence = report.attempts.map((attempt) => `X-Egress25-Attempt: ${attemptLine(attempt)}`)
  const summary = `X-Egress25-Summary: ${incident.summary.replace(/[^\x20-\x7e]/g, '?').slice(0, 900)}`
  const written = Object.entries(fields).map(([name, value]) => `${name}: ${value}`)
  return {
    type: 'multipart/report; report-type=feedback-report',
    parts: [
      { type: 'message/feedback-report', content: lines(...written, ''), name: null },
      { type: 'text/rfc822-headers', content: lines(summary, ...evidence, ''), name: null },
    ],
    headers: {},
  }
}

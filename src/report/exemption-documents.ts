/** Exemptions for what looks like mail servers, ready to be reviewed and committed. Pure. */
import { stringify } from 'yaml'
import type { ReportItem } from './report-body.ts'

export interface ExemptionFile {
  readonly name: string
  /** Of the file, inside a policy directory. */
  readonly path: string
  readonly text: string
}

/** A document in a file of its own for each that looks like a mail server; what is wrong with one stays one file. */
export function exemptionFiles(items: readonly ReportItem[], reported: string): ExemptionFile[] {
  return items
    .filter(({ group }) => group === 'mail-server')
    .map((item) => {
      const name = `mail-server-${item.source.replaceAll(/[^0-9a-f]+/g, '-').replace(/-+$/, '')}`.slice(0, 48)
      return { name, path: `${name}.yaml`, text: textOf(name, item, reported) }
    })
}

function textOf(
  name: string,
  { source, confidence, reasons, evidence, subscriber }: ReportItem,
  reported: string,
): string {
  const { attempts, destinations, first_seen, last_seen } = evidence
  const owner = subscriber?.contact ?? subscriber?.account ?? null
  const remarks = [
    `Proposed by egress25 report on ${reported}: ${confidence} a mail server.`,
    ...reasons.map((reason) => `- ${reason}`),
    `${attempts} attempts to ${destinations} servers from ${first_seen} to ${last_seen}.`,
    ...(subscriber === null
      ? []
      : [`Who: ${subscriber.name ?? subscriber.account ?? subscriber.mac ?? subscriber.source}`]),
    'Ask them before you commit this, and say until when with `expires`.',
  ]
  const document = {
    kind: 'exemption',
    name,
    sources: [source],
    reason: `Looks like a mail server (egress25 report, ${reported.slice(0, 10)}).`,
    ...(owner === null ? {} : { owner }),
  }
  return `${remarks.map((line) => `# ${line}`).join('\n')}\n${stringify(document)}`
}

/** `egress25 report`: who would be blocked, sorted by what they look like; and exemptions for the mail servers. */
import { access, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { callService } from '../client/client.ts'
import { readConfig } from '../config/config.ts'
import { writeFileAtomically } from '../kernel/atomic-file.ts'
import { SENDER_GROUPS, type SenderGroup } from '../report/evidence.ts'
import { exemptionFiles } from '../report/exemption-documents.ts'
import type { ReportBody, ReportItem } from '../report/report-body.ts'
import type { Subscriber } from '../subscribers/subscriber.ts'
import { complain, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem } from './service-directory.ts'

export interface ReportOptions {
  readonly json: boolean
  readonly config: string | null
  /** Where to write exemptions for what looks like mail servers; null: nowhere. */
  readonly exemptions: string | null
  /** RFC 3339; null: as the service has it. */
  readonly from: string | null
  readonly to: string | null
}

const TITLES: Readonly<Record<SenderGroup, string>> = {
  'mail-server': 'looks like a mail server: exempt it, or make it use a relay',
  bot: 'looks like a bot: have it cleaned',
  'misconfigured-client':
    'looks like a client set up for port 25: point it at port 587 or 465, or at a relay',
  'cannot-tell': 'cannot tell: look at it yourself',
}

export async function report({ json, config, exemptions, from, to }: ReportOptions): Promise<Exit> {
  const { listen } = await readConfig(config)
  const query = new URLSearchParams({ ...(from === null ? {} : { from }), ...(to === null ? {} : { to }) })
  const { status, body } = await callService(listen, 'GET', `/v1/report${query.size > 0 ? `?${query}` : ''}`)
  if (status !== 200) return complainOfProblem(status, body, { json })
  const found = body as ReportBody
  if (json) printJson(found)
  else for (const line of lines(found)) print(line)
  return exemptions === null ? EXIT.done : writeExemptions(exemptions, found, json ? () => {} : print)
}

function lines({ from, to, policies, items, resolver, truncated }: ReportBody): string[] {
  if (policies.length === 0) return ['no policy observes: there is nobody who would be blocked and is not']
  return [
    `from ${from} to ${to}, policies in mode observe: ${policies.join(', ')}`,
    ...SENDER_GROUPS.flatMap((group) => {
      const some = items.filter((item) => item.group === group)
      return some.length === 0 ? [] : ['', `${some.length} ${TITLES[group]}`, ...some.flatMap(linesOf)]
    }),
    ...(items.length === 0 ? ['nobody would be blocked'] : []),
    ...(resolver === null
      ? ['', 'names were not looked up: set report: { resolver: ADDRESS } for that']
      : []),
    ...(truncated ? ['', 'there are more machines, with fewer attempts'] : []),
  ]
}

function linesOf({ source, confidence, policy, reasons, evidence, subscriber }: ReportItem): string[] {
  const { attempts, destinations } = evidence
  const who = subscriber === null ? '' : `, ${nameOf(subscriber)}`
  return [
    `  ${source}${who} (${confidence}; ${policy}): ${attempts} attempts, ${destinations} servers`,
    ...reasons.map((reason) => `    - ${reason}`),
  ]
}

function nameOf({ name, account, mac, source }: Subscriber): string {
  return name ?? account ?? mac ?? source
}

/** A file that is there stays as it is: somebody may have worked on it. */
async function writeExemptions(
  directory: string,
  { items, to }: ReportBody,
  say: (line: string) => void,
): Promise<Exit> {
  await mkdir(directory, { recursive: true })
  const files = exemptionFiles(items, to)
  let written = 0
  for (const { path, text } of files) {
    const target = join(directory, path)
    const isThere = await access(target).then(
      () => true,
      () => false,
    )
    if (isThere) {
      complain(`egress25: ${target} is there already, and stays as it is`)
      continue
    }
    await writeFileAtomically(target, text)
    say(`wrote ${target}`)
    written++
  }
  say(`${written} exemptions written: review them, egress25 check ${directory}, and commit them`)
  return EXIT.done
}

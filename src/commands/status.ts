/** `egress25 status`: how the gateway is. */
import { ask, type Common } from './ask.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'
import { coloured, type Style } from './table.ts'

/** The parts of `/v1/status` that are shown. */
interface Status {
  readonly gateway: string
  readonly in_sync: boolean
  readonly drift: number
  readonly ruleset: { readonly applied: string } | null
  readonly documents: Readonly<Record<string, number>> | null
  readonly attempts: { readonly total: number }
  readonly events: { readonly listening: boolean; readonly received: number; readonly lost: number }
  readonly incidents: { readonly open: Readonly<Record<string, number>> }
  /** A service from before an upgrade has none of these until it is restarted. */
  readonly pending?: { readonly seconds_left: number } | null
  readonly held?: { readonly id: string } | null
  readonly refused?: { readonly reason: string } | null
  readonly preflight?: readonly { readonly code: string; readonly message: string }[]
}

export async function status(common: Common): Promise<Exit> {
  const answer = await ask<Status>(common, { path: '/v1/status' })
  if ('exit' in answer) return answer.exit
  const found = answer.body
  if (common.json) printJson(found)
  else for (const [name, text, style] of lines(found)) print(`${name.padEnd(10)} ${coloured(text, style)}`)
  return found.in_sync ? EXIT.done : EXIT.no
}

function lines({
  gateway,
  in_sync,
  drift,
  ruleset,
  documents,
  attempts,
  events,
  incidents: { open },
  pending = null,
  held = null,
  refused = null,
  preflight = [],
}: Status): [string, string, Style | null][] {
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ')
  const rows: [string, string, Style | null][] = [
    ['gateway', gateway, 'bold'],
    [
      'kernel',
      `${in_sync ? 'in sync' : 'NOT IN SYNC'}${drift > 0 ? `, drifted ${drift} times` : ''}`,
      in_sync ? 'green' : 'red',
    ],
    [
      'policies',
      ruleset === null ? 'NONE IN FORCE' : `${list(documents ?? {})}; applied ${ruleset.applied}`,
      ruleset === null ? 'red' : null,
    ],
    ['attempts', `${attempts.total} counted, ${events.received} known in detail, ${events.lost} lost`, null],
    [
      'listening',
      events.listening ? 'yes' : 'NO: attempts are counted, but not known in detail',
      events.listening ? null : 'red',
    ],
    ['incidents', Object.keys(open).length === 0 ? 'none open' : list(open), null],
  ]
  if (pending !== null) {
    rows.push([
      'PENDING',
      `taken back in ${pending.seconds_left} s unless egress25 confirm follows`,
      'yellow',
    ])
  }
  if (held !== null) {
    const what = 'the policies were taken back; mend them, or egress25 apply brings them into force'
    rows.push(['HELD', what, 'yellow'])
  }
  if (refused !== null) {
    rows.push(['REFUSED', `${refused.reason}; egress25 check says more`, 'yellow'])
  }
  for (const { code, message } of preflight) rows.push(['WARNING', `${code}: ${message}`, 'yellow'])
  return rows
}

/** `egress25 status`: how the gateway is. */
import { KINDS, PLURALS } from '../policy/schema.ts'
import { ask, type Common } from './ask.ts'
import { counted, EXIT, type Exit, print, printJson } from './outcome.ts'
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
  readonly exemption_requests?: { readonly waiting: number }
  readonly repository?: Repository
  readonly preflight?: readonly { readonly code: string; readonly message: string }[]
}

interface Repository {
  /** Why there is no history; null: there is. */
  readonly reason: string | null
  readonly branch: string | null
  readonly revision: string | null
  readonly waiting: number
  readonly failure: string | null
  readonly edited: { readonly state: string; readonly files: readonly { readonly path: string }[] }
  readonly remote: { readonly state: string; readonly branch: string; readonly reason: string | null } | null
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
  exemption_requests: requests = { waiting: 0 },
  repository,
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
      ruleset === null ? 'NONE IN FORCE' : `${documentsIn(documents)}; applied ${ruleset.applied}`,
      ruleset === null ? 'red' : null,
    ],
    [
      'attempts',
      `${attempts.total} counted; since the service started ${events.received} known in detail, ${events.lost} not`,
      null,
    ],
    [
      'listening',
      events.listening ? 'yes' : 'NO: attempts are counted, but not known in detail',
      events.listening ? null : 'red',
    ],
    ['incidents', Object.keys(open).length === 0 ? 'none open' : list(open), null],
  ]
  if (repository?.reason === null) rows.push(...historyRows(repository))
  else if (repository?.failure != null) rows.push(['history', `NONE: ${repository.failure}`, 'red'])
  if (requests.waiting > 0)
    rows.push(['requests', `${requests.waiting} wait for a decision: egress25 exempt requests`, 'yellow'])
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
    rows.push(['REFUSED', `${refused.reason}; egress25 test says more`, 'yellow'])
  }
  for (const { code, message } of preflight) rows.push(['WARNING', `${code}: ${message}`, 'yellow'])
  return rows
}

function documentsIn(documents: Status['documents']): string {
  return KINDS.map((kind) => counted(documents?.[PLURALS[kind]] ?? 0, kind, PLURALS[kind])).join(', ')
}

function historyRows({
  branch,
  revision,
  waiting,
  failure,
  edited,
  remote,
}: Repository): [string, string, Style | null][] {
  const at = `${branch ?? 'no branch'} at ${revision?.slice(0, 10) ?? 'no commit'}`
  const rows: [string, string, Style | null][] = [
    [
      'history',
      `${at}${waiting > 0 ? `, not committed yet: ${counted(waiting, 'change', 'changes')}` : ''}${failure === null ? '' : `: ${failure}`}`,
      failure === null ? null : 'red',
    ],
  ]
  if (edited.state !== 'in-force') {
    const files = edited.files.map(({ path }) => path).join(', ')
    rows.push(['EDITED', `${files || 'files'} by hand: ${edited.state}`, 'yellow'])
  }
  if (remote !== null) {
    const { state, branch: theirs, reason } = remote
    const style = state === 'in-step' ? null : state === 'unknown' ? 'dim' : 'red'
    rows.push(['remote', `${theirs}: ${state}${reason === null ? '' : ` (${reason})`}`, style])
  }
  return rows
}

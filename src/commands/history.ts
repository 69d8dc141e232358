/** `egress25 history`: who changed what, when and why, and the way back. */
import { ConfigError } from '../config-error.ts'
import { type Answered, ask, type Common, query, reasonHeader } from './ask.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'
import { ago, type Column, coloured, printRows, visible, wantsJson } from './table.ts'

const ROUTE = '/v1/history'
/** As many digits of a revision as are shown; the service takes them back. */
const SHORT = 10

/** The parts that are shown. */
interface Revision {
  readonly revision: string
  readonly author: { readonly name: string }
  readonly time: string
  readonly subject: string
  readonly reason: string | null
}

interface Detail extends Revision {
  readonly diff: string | null
}

export interface HistoryOptions extends Common {
  readonly path?: string
  readonly limit?: string
}

export interface RevertOptions extends Common {
  readonly reason?: string
  /** Although a host that is exempt again has an open incident; says why with `reason`. */
  readonly overrideIncident?: boolean
}

export async function listHistory({ path, limit, ...common }: HistoryOptions): Promise<Exit> {
  const answer = await ask<{ items: Revision[] }>(common, { path: `${ROUTE}${query({ path, limit })}` })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, COLUMNS, { json: common.json, none: 'no changes' })
  return EXIT.done
}

export async function showRevision(revision: string, common: Common): Promise<Exit> {
  const answer = await ask<Detail>(common, { path: pathOf(revision) })
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else for (const line of lines(answer.body)) print(line)
  return EXIT.done
}

export async function revertRevision(
  revision: string,
  { reason, overrideIncident, ...common }: RevertOptions,
): Promise<Exit> {
  const path = `${pathOf(revision)}/revert${overrideIncident === true ? '?override_incident=true' : ''}`
  const answer = await ask<Revision>(common, { method: 'POST', path, headers: reasonHeader(reason) })
  return tell(answer, common, ({ revision: made, subject }) => `in force: ${made.slice(0, SHORT)} ${subject}`)
}

/** @throws ConfigError for what can be no revision */
function pathOf(revision: string): string {
  if (/^([0-9a-f]{7,64}|HEAD)$/.test(revision)) return `${ROUTE}/${revision}`
  throw new ConfigError(`${revision} is no revision; egress25 history lists them`)
}

/** The parts of a remote that are shown. */
interface Remote {
  readonly url: string
  readonly branch: string
  readonly state: string
  readonly revision: string | null
  readonly reason: string | null
}

export async function pull(common: Common): Promise<Exit> {
  const answer = await ask<Remote>(common, { method: 'POST', path: '/v1/pull' })
  return tell(answer, common, ({ url, branch, state, revision, reason }) => {
    const what = reason === null ? state : `${state} (${reason})`
    return `${what}: ${branch} of ${url}${revision === null ? '' : ` at ${revision.slice(0, SHORT)}`}`
  })
}

function tell<Body>(answer: Answered<Body>, common: Common, sentence: (body: Body) => string): Exit {
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else print(visible(sentence(answer.body)))
  return EXIT.done
}

function lines({ revision, author, time, subject, reason, diff }: Detail): string[] {
  const rows = [
    ['revision', revision],
    ['by', author.name],
    ['at', time],
    ['what', subject],
    ['why', reason ?? 'nobody said'],
  ] as const
  return [
    ...rows.map(([name, text]) => `${coloured(name.padEnd(10), 'dim')}${visible(text)}`),
    '',
    ...(diff === null ? ['(longer than 1 MiB: git show says it)'] : diff.trimEnd().split('\n').map(diffLine)),
  ]
}

function diffLine(line: string): string {
  const style = line.startsWith('+') ? 'green' : line.startsWith('-') ? 'red' : null
  return coloured(visible(line), /^(\+\+\+|---) /.test(line) ? 'dim' : style)
}

const COLUMNS: readonly Column<Revision>[] = [
  { title: 'revision', text: ({ revision }) => revision.slice(0, SHORT) },
  { title: 'when', text: ({ time }) => ago(time, Date.now()) },
  { title: 'by', text: ({ author }) => author.name },
  { title: 'what', text: ({ subject }) => subject, style: () => 'bold' },
  { title: 'why', text: ({ reason }) => reason?.split('\n')[0] ?? '' },
]

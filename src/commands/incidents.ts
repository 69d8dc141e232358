/** `egress25 incidents`: which machines misbehave, and what people say of them. */
import { localUser } from '../alerts/formats/who.ts'
import type { IncidentBody } from '../detect/incident-body.ts'
import type { Subscriber } from '../subscribers/subscriber.ts'
import { ask, type Common, query } from './ask.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'
import { ago, type Column, coloured, printRows, visible, wantsJson } from './table.ts'

export interface ListOptions extends Common {
  readonly state?: string
  readonly kind?: string
  readonly limit?: string
}

export async function listIncidents({
  state = 'open',
  kind,
  limit = '1000',
  ...common
}: ListOptions): Promise<Exit> {
  const path = `/v1/incidents${query({ state: state === 'all' ? undefined : state, kind, limit })}`
  const answer = await ask<{ items: IncidentBody[] }>(common, { path })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, COLUMNS, { json: common.json, none: `no ${state} incidents` })
  return EXIT.done
}

export async function showIncident(id: string, common: Common): Promise<Exit> {
  return one(await ask<IncidentBody>(common, { path: pathOf(id) }), common)
}

/** `acknowledge`: somebody looks after it; `resolve`: it is over. */
export async function decideIncident(
  id: string,
  decision: 'acknowledge' | 'resolve',
  common: Common,
): Promise<Exit> {
  const path = `${pathOf(id)}/${decision}`
  return one(await ask<IncidentBody>(common, { method: 'POST', path }), common)
}

function one(answer: { body: IncidentBody } | { exit: Exit }, common: Common): Exit {
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else for (const line of details(answer.body)) print(line)
  return EXIT.done
}

const pathOf = (id: string) => `/v1/incidents/${encodeURIComponent(id)}`

const COLUMNS: readonly Column<IncidentBody>[] = [
  { title: 'id', text: ({ id }) => id },
  {
    title: 'kind',
    text: ({ kind }) => kind,
    style: ({ kind, state }) =>
      state === 'resolved' ? 'dim' : kind === 'misconfigured-client' ? 'yellow' : 'red',
  },
  { title: 'sure', text: ({ confidence }) => confidence },
  { title: 'source', text: ({ source }) => source, style: () => 'bold' },
  { title: 'user', text: (incident) => localUser(incident) ?? '' },
  { title: 'attempts', text: ({ attempts }) => String(attempts) },
  { title: 'last seen', text: ({ last_seen }) => ago(last_seen, Date.now()) },
  {
    title: 'subscriber',
    text: ({ subscriber }) => subscriber?.name ?? subscriber?.account ?? subscriber?.mac ?? '',
  },
  { title: 'summary', text: ({ summary }) => summary },
]

/** Who was behind it, with all that is known of them. */
function describe({ source, since, ...known }: Subscriber): string {
  const parts = Object.entries(known).flatMap(([name, value]) => (value === null ? [] : [`${name} ${value}`]))
  return `${parts.join(', ')}${since === null ? '' : `, since ${since}`} (${source})`
}

function details(incident: IncidentBody): string[] {
  const { id, kind, confidence, state, acknowledged, source, policy, verdict, first_seen, last_seen } =
    incident
  const { user, process } = incident
  const rows: [string, string][] = [
    ['incident', id],
    ['kind', `${kind} (${confidence})`],
    ['state', acknowledged ? `${state}, acknowledged` : state],
    ['source', source],
    ...(user === null ? [] : [['user', `${user.name ?? 'nameless'} (${user.uid})`] as [string, string]]),
    ...(process === null
      ? []
      : [['program', `${process.name} ${process.path ?? ''}`.trim()] as [string, string]]),
    ...(incident.subscriber === null
      ? []
      : [['subscriber', describe(incident.subscriber)] as [string, string]]),
    ['policy', `${policy} (${verdict})`],
    ['first seen', first_seen],
    ['last seen', last_seen],
    ['attempts', `${incident.attempts} at ${incident.destinations} destinations`],
    ...incident.top_destinations.map(({ destination, attempts }): [string, string] => [
      '',
      `${attempts} × ${destination}`,
    ]),
  ]
  return [
    ...rows.map(([name, value]) => `${coloured(name.padEnd(10), 'dim')}  ${visible(value)}`),
    '',
    visible(incident.summary),
  ]
}

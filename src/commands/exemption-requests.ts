/** `egress25 exempt request|requests|approve|refuse|withdraw`: exemptions that one asks for, and another decides on. */

import { ConfigError } from '../config-error.ts'
import { parseDuration } from '../policy/formats.ts'
import { ask, askForAll, type Common } from './ask.ts'
import { type AddOptions, exemptionFields, noDuration, soundExemption } from './exempt.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'
import { ago, type Column, printRows, wantsJson } from './table.ts'

const ROUTE = '/v1/exemption-requests'

/** The parts that are shown. */
interface Request {
  readonly id: string
  readonly state: string
  readonly exemption: { readonly name: string; readonly sources: readonly string[]; readonly ticket?: string }
  readonly requested: { readonly by: string; readonly at: string; readonly reason: string | null }
  /** Open ones of its hosts. */
  readonly incidents: readonly { readonly id: string }[]
}

/** Asks for what `exempt add` would do. `--for` counts from the approval. */
export async function requestExemption(sources: readonly string[], options: AddOptions): Promise<Exit> {
  const { json, config, name, for: lasts, until } = options
  const written = exemptionFields(sources, options, until ?? null)
  soundExemption(name ?? 'unnamed', written)
  if (lasts !== undefined && parseDuration(lasts) === null) throw noDuration(lasts)
  const body = {
    ...written,
    ...(name === undefined ? {} : { name }),
    ...(lasts === undefined ? {} : { for: lasts }),
  }
  return tell(await ask<Request>({ json, config }, { method: 'POST', path: ROUTE, body }), { json, config })
}

export async function listRequests({
  state,
  ...common
}: Common & { readonly state?: string }): Promise<Exit> {
  const answer = await askForAll<Request>(common, ROUTE, { state })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, COLUMNS, { json: common.json, none: 'no requests' })
  return EXIT.done
}

export interface DecideOptions extends Common {
  readonly reason?: string
  /** Although a host that it covers has an open incident. */
  readonly overrideIncident?: boolean
}

export async function decideRequest(
  id: string,
  decision: 'approve' | 'refuse' | 'withdraw',
  { json, config, reason, overrideIncident }: DecideOptions,
): Promise<Exit> {
  if (!/^[0-9a-f]{10}$/.test(id))
    throw new ConfigError(`${id} is no id of a request; egress25 exempt requests lists them`)
  const body = {
    ...(reason === undefined ? {} : { reason }),
    ...(overrideIncident === true ? { override_incident: true } : {}),
  }
  const path = `${ROUTE}/${encodeURIComponent(id)}/${decision}`
  return tell(await ask<Request>({ json, config }, { method: 'POST', path, body }), { json, config })
}

function tell(answer: { body: Request } | { exit: Exit }, common: Common): Exit {
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else print(`${answer.body.state}: exemption ${answer.body.exemption.name} (request ${answer.body.id})`)
  return EXIT.done
}

const COLUMNS: readonly Column<Request>[] = [
  { title: 'id', text: ({ id }) => id },
  {
    title: 'state',
    text: ({ state }) => state,
    style: ({ state }) => (state === 'requested' ? 'yellow' : null),
  },
  { title: 'name', text: ({ exemption }) => exemption.name, style: () => 'bold' },
  { title: 'sources', text: ({ exemption }) => exemption.sources.join(', ') },
  { title: 'asked by', text: ({ requested }) => `${requested.by}, ${ago(requested.at, Date.now())}` },
  {
    title: 'against it',
    text: ({ incidents }) => incidents.map(({ id }) => id).join(' '),
    style: () => 'red',
  },
  { title: 'reason', text: ({ requested }) => requested.reason ?? '' },
]

/** `egress25 status` and `egress25 incidents`: what the service knows. */
import { callService } from '../client.ts'
import { readConfig } from '../config.ts'
import type { IncidentBody } from '../detect/incident-body.ts'
import type { Subscriber } from '../subscribers/subscriber.ts'
import { complain, EXIT, type Exit, print, printJson } from './outcome.ts'

interface Options {
  readonly json: boolean
  readonly config: string | null
}

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
  readonly preflight?: readonly { readonly code: string; readonly message: string }[]
}

export async function status({ json, config }: Options): Promise<Exit> {
  const { listen } = await readConfig(config)
  const answer = await callService(listen, 'GET', '/v1/status')
  const found = answer.body as Status
  if (json) printJson(found)
  else for (const line of lines(found)) print(line)
  return found.in_sync ? EXIT.done : EXIT.no
}

export async function incidents({ json, config }: Options): Promise<Exit> {
  const { listen } = await readConfig(config)
  const { status: code, body } = await callService(listen, 'GET', '/v1/incidents?state=open&limit=1000')
  if (code !== 200) {
    complain(`egress25: the service answered ${code}`)
    return EXIT.no
  }
  if (json) printJson(body)
  else {
    const { items } = body as { items: IncidentBody[] }
    for (const { kind, confidence, summary, subscriber } of items) {
      print(`${kind} (${confidence}): ${summary}${subscriber === null ? '' : ` ${describe(subscriber)}`}`)
    }
    if (items.length === 0) print('no open incidents')
  }
  return EXIT.done
}

/** Who was behind it, with all that is known of them. */
function describe({ source, since, ...known }: Subscriber): string {
  const parts = Object.entries(known).flatMap(([name, value]) => (value === null ? [] : [`${name} ${value}`]))
  return `Subscriber (${source}): ${parts.join(', ')}${since === null ? '' : `, since ${since}`}.`
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
  preflight = [],
}: Status) {
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ')
  return [
    `gateway    ${gateway}`,
    `kernel     ${in_sync ? 'in sync' : 'NOT IN SYNC'}${drift > 0 ? `, drifted ${drift} times` : ''}`,
    `policies   ${ruleset === null ? 'NONE IN FORCE' : `${list(documents ?? {})}; applied ${ruleset.applied}`}`,
    `attempts   ${attempts.total} counted, ${events.received} known in detail, ${events.lost} lost`,
    `listening  ${events.listening ? 'yes' : 'NO: attempts are counted, but not known in detail'}`,
    `incidents  ${Object.keys(open).length === 0 ? 'none open' : list(open)}`,
    ...(pending === null
      ? []
      : [`PENDING    taken back in ${pending.seconds_left} s unless egress25 confirm follows`]),
    ...(held === null
      ? []
      : ['HELD       the policies were taken back; mend them, or egress25 apply brings them into force']),
    ...preflight.map(({ code, message }) => `WARNING    ${code}: ${message}`),
  ]
}

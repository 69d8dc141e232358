/** `egress25 alerts`: channels looked at and tried, and messages looked at and sent once more. */
import { ask, type Common, query } from './ask.ts'
import { complain, EXIT, type Exit, print, printJson } from './outcome.ts'
import { ago, type Column, coloured, printRows, visible, wantsJson } from './table.ts'

export interface ListOptions extends Common {
  readonly channel?: string
  readonly state?: string
  readonly limit?: string
}

/** The parts of an alert that are shown. */
interface Alert {
  readonly id: number
  readonly channel: string
  readonly state: 'waiting' | 'sent' | 'dead'
  readonly event: string
  readonly severity: string
  readonly created: string
  readonly tries: number
  readonly next_try: string | null
  readonly subject: string | null
  readonly error: string | null
}

interface WholeAlert extends Alert {
  readonly key: string
  readonly settled: string | null
  readonly lines: readonly string[]
}

interface Channel {
  readonly name: string
  readonly type: string
  readonly queued: number
  readonly held: number
  readonly waiting: number
  readonly dead: number
  readonly dropped: number
  readonly failures: number
  readonly paused_until: string | null
  readonly error: string | null
}

/** Ends with 1 when it did not arrive. */
export async function testChannel(name: string, common: Common): Promise<Exit> {
  const path = `${channelPath(name)}/test`
  const answer = await ask<{ delivered: boolean; milliseconds: number; error: string | null }>(common, {
    method: 'POST',
    path,
  })
  if ('exit' in answer) return answer.exit
  const { delivered, milliseconds, error } = answer.body
  if (wantsJson(common)) printJson(answer.body)
  else if (delivered) print(`delivered in ${milliseconds} ms`)
  else complain(`egress25: not delivered after ${milliseconds} ms: ${visible(error ?? '')}`)
  return delivered ? EXIT.done : EXIT.no
}

/** Ends with 1 when one of them does not get its messages. */
export async function listChannels(common: Common): Promise<Exit> {
  const answer = await ask<{ items: Channel[] }>(common, { path: '/v1/alerts/channels?limit=1000' })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, CHANNELS, { json: common.json, none: 'no channels: see alerts in egress25.yaml' })
  return answer.body.items.every(({ failures, dead }) => failures + dead === 0) ? EXIT.done : EXIT.no
}

export async function listAlerts({ channel, state, limit = '50', ...common }: ListOptions): Promise<Exit> {
  const path = `/v1/alerts${query({ channel, state, limit })}`
  const answer = await ask<{ items: Alert[]; next: string | null }>(common, { path })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, ALERTS, { json: common.json, none: 'no alerts' })
  if (answer.body.next !== null && !wantsJson(common)) print('there are more: --limit, --channel, --state')
  return EXIT.done
}

export async function showAlert(id: string, common: Common): Promise<Exit> {
  const answer = await ask<WholeAlert>(common, { path: alertPath(id) })
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else for (const line of details(answer.body)) print(line)
  return EXIT.done
}

export async function resendAlert(id: string, common: Common): Promise<Exit> {
  const answer = await ask<Alert>(common, { method: 'POST', path: `${alertPath(id)}/resend` })
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else print(`alert ${id} is on its way to ${answer.body.channel}`)
  return EXIT.done
}

/** All that were given up. */
export async function resendDead(channel: string, common: Common): Promise<Exit> {
  const path = `${channelPath(channel)}/resend`
  const answer = await ask<{ resent: number }>(common, { method: 'POST', path })
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else print(`alerts on their way to ${channel}: ${answer.body.resent}`)
  return EXIT.done
}

const alertPath = (id: string) => `/v1/alerts/${encodeURIComponent(id)}`
const channelPath = (name: string) => `/v1/alerts/channels/${encodeURIComponent(name)}`

const CHANNELS: readonly Column<Channel>[] = [
  { title: 'channel', text: ({ name }) => name, style: () => 'bold' },
  { title: 'type', text: ({ type }) => type },
  {
    title: 'state',
    text: ({ failures, paused_until }) =>
      failures === 0 ? 'ok' : `${failures} failures${paused_until === null ? '' : ', paused'}`,
    style: ({ failures }) => (failures === 0 ? 'green' : 'red'),
  },
  { title: 'waiting', text: ({ waiting }) => String(waiting) },
  { title: 'held', text: ({ held }) => String(held) },
  {
    title: 'dead',
    text: ({ dead }) => String(dead),
    style: ({ dead }) => (dead > 0 ? 'red' : null),
  },
  { title: 'dropped', text: ({ dropped }) => String(dropped) },
  { title: 'error', text: ({ error }) => error ?? '' },
]

const STYLES = { dead: 'red', waiting: 'yellow', sent: 'dim' } as const

const ALERTS: readonly Column<Alert>[] = [
  { title: 'id', text: ({ id }) => String(id) },
  { title: 'made', text: ({ created }) => ago(created, Date.now()) },
  { title: 'channel', text: ({ channel }) => channel },
  { title: 'state', text: ({ state }) => state, style: ({ state }) => STYLES[state] },
  { title: 'tries', text: ({ tries }) => String(tries) },
  {
    title: 'subject',
    text: ({ subject, event, error }) => `${subject ?? event}${error === null ? '' : ` (${error})`}`,
  },
]

function details(alert: WholeAlert): string[] {
  const rows: [string, string | null][] = [
    ['alert', String(alert.id)],
    ['channel', alert.channel],
    ['state', `${alert.state}, tries: ${alert.tries}`],
    ['event', `${alert.event} (${alert.severity})`],
    ['made', alert.created],
    ['next try', alert.next_try],
    [alert.state === 'dead' ? 'given up' : 'arrived', alert.settled],
    ['error', alert.error],
    ['key', alert.key],
  ]
  return [
    ...rows.flatMap(([name, value]) =>
      value === null ? [] : [`${coloured(name.padEnd(10), 'dim')}  ${visible(value)}`],
    ),
    '',
    ...[alert.subject ?? '', '', ...alert.lines].map(visible),
  ]
}

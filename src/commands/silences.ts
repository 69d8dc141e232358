/** `egress25 alerts silence|silences|unsilence`: what is not told for a while. */
import { ask, type Common } from './ask.ts'
import { EXIT, type Exit, print, printJson } from './outcome.ts'
import { type Column, printRows, visible, wantsJson } from './table.ts'

export interface SilenceOptions extends Common {
  /** How long, or else until when. */
  readonly for?: string
  readonly until?: string
  readonly from?: string
  readonly channel?: readonly string[]
  readonly kind?: readonly string[]
  readonly policy?: readonly string[]
  readonly network?: readonly string[]
  readonly reason?: string
}

interface Silence {
  readonly id: string
  readonly from: string
  readonly until: string
  readonly channels: readonly string[]
  readonly kinds: readonly string[]
  readonly policies: readonly string[]
  readonly networks: readonly string[]
  readonly reason: string | null
  readonly by: string
  readonly configured: boolean
  readonly silenced: number
}

export async function addSilence(options: SilenceOptions): Promise<Exit> {
  const { channel: channels, kind: kinds, policy: policies, network: networks, from, until, reason } = options
  const body = { for: options.for, until, from, channels, kinds, policies, networks, reason }
  const answer = await ask<Silence>(options, { method: 'POST', path: '/v1/silences', body })
  if ('exit' in answer) return answer.exit
  const { id, until: end } = answer.body
  if (wantsJson(options)) printJson(answer.body)
  else print(`silent until ${end}; to end it before: egress25 alerts unsilence ${id}`)
  return EXIT.done
}

export async function endSilence(id: string, common: Common): Promise<Exit> {
  const path = `/v1/silences/${encodeURIComponent(id)}`
  const answer = await ask<Silence>(common, { method: 'DELETE', path })
  if ('exit' in answer) return answer.exit
  if (wantsJson(common)) printJson(answer.body)
  else print(`the silence is over; ${answer.body.silenced} pieces of news were not told`)
  return EXIT.done
}

export async function listSilences(common: Common): Promise<Exit> {
  const answer = await ask<{ items: Silence[] }>(common, { path: '/v1/silences?limit=1000' })
  if ('exit' in answer) return answer.exit
  printRows(answer.body, SILENCES, { json: common.json, none: 'no silences' })
  return EXIT.done
}

const SILENCES: readonly Column<Silence>[] = [
  { title: 'id', text: ({ id }) => id },
  {
    title: 'state',
    text: ({ from, until }) => stateOf(from, until, Date.now()),
    style: ({ from, until }) => (stateOf(from, until, Date.now()) === 'holds' ? 'yellow' : 'dim'),
  },
  { title: 'until', text: ({ until }) => until },
  { title: 'silenced', text: ({ silenced }) => String(silenced) },
  { title: 'by', text: ({ by, configured }) => (configured ? 'the configuration' : by) },
  { title: 'of', text: (silence) => visible(concernOf(silence)) },
  { title: 'reason', text: ({ reason }) => reason ?? '' },
]

function stateOf(from: string, until: string, now: number): string {
  if (Date.parse(until) <= now) return 'over'
  return Date.parse(from) > now ? 'to come' : 'holds'
}

function concernOf({ channels, kinds, policies, networks }: Silence): string {
  const parts = [...kinds, ...policies, ...networks]
  const what = parts.length === 0 ? 'everything' : parts.join(', ')
  return channels.length === 0 ? what : `${what} to ${channels.join(', ')}`
}

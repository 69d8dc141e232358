/** `egress25 alerts test|list|resend`: channels tried, and messages looked at and sent once more. */
import { callService } from '../client.ts'
import { readConfig } from '../config.ts'
import { complain, EXIT, type Exit, print, printJson } from './outcome.ts'
import { complainOfProblem } from './service-directory.ts'

interface Options {
  readonly json: boolean
  readonly config: string | null
}

/** The parts of an alert that are shown. */
interface Alert {
  readonly id: number
  readonly channel: string
  readonly state: 'waiting' | 'sent' | 'dead'
  readonly created: string
  readonly tries: number
  readonly subject: string | null
  readonly error: string | null
}

/** Ends with 1 when it did not arrive. */
export async function testChannel(name: string, { json, config }: Options): Promise<Exit> {
  const { listen } = await readConfig(config)
  const path = `/v1/alerts/channels/${encodeURIComponent(name)}/test`
  const { status, body } = await callService(listen, 'POST', path)
  if (status !== 200) return complainOfProblem(status, body, { json })
  const { delivered, milliseconds, error } = body as {
    delivered: boolean
    milliseconds: number
    error: string | null
  }
  if (json) printJson(body)
  else if (delivered) print(`delivered in ${milliseconds} ms`)
  else complain(`egress25: not delivered: ${error}`)
  return delivered ? EXIT.done : EXIT.no
}

export async function listAlerts(
  { json, config }: Options,
  { channel, state }: { readonly channel: string | null; readonly state: string | null },
): Promise<Exit> {
  const { listen } = await readConfig(config)
  const query = new URLSearchParams({
    ...(channel === null ? {} : { channel }),
    ...(state === null ? {} : { state }),
  })
  const { status, body } = await callService(listen, 'GET', `/v1/alerts?${query}`)
  if (status !== 200) return complainOfProblem(status, body, { json })
  if (json) printJson(body)
  else {
    const { items } = body as { items: Alert[] }
    for (const { id, channel, state, created, tries, subject, error } of items) {
      const fate = state === 'sent' ? '' : `, ${tries} tries${error === null ? '' : `: ${error}`}`
      print(`${id}  ${created}  ${channel}  ${state}${fate}  ${subject ?? ''}`)
    }
    if (items.length === 0) print('no alerts')
  }
  return EXIT.done
}

export async function resendAlert(id: string, { json, config }: Options): Promise<Exit> {
  const { listen } = await readConfig(config)
  const { status, body } = await callService(listen, 'POST', `/v1/alerts/${encodeURIComponent(id)}/resend`)
  if (status !== 200) return complainOfProblem(status, body, { json })
  if (json) printJson(body)
  else print(`alert ${id} is on its way to ${(body as Alert).channel}`)
  return EXIT.done
}

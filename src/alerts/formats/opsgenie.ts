/**
 * A request to Opsgenie's Alert API. Under one alias the first makes an alert and the next are counted with it, so that
 * whatever arrives first is told; what ends closes it.
 */
import { detailsOf } from './details.ts'
import type { Shape } from './http-request.ts'
import { shorten } from './shorten.ts'
import { threadOf } from './thread.ts'

export const OPSGENIE_URL = 'https://api.opsgenie.com/v2/alerts'

const PRIORITIES = { info: 'P5', warning: 'P3', critical: 'P1' } as const

export const opsgenie: Shape = (message, { url, token }) => {
  const { about, text, body, severity, gateway } = message
  const { id, state } = threadOf(message)
  const headers = { authorization: `GenieKey ${token}` }
  const source = shorten(`egress25 on ${gateway}`, 100)
  const description = text.lines.join('\n')
  if (state === 'ends') {
    return {
      url: `${url.replace(/\/+$/, '')}/${encodeURIComponent(id)}/close?identifierType=alias`,
      headers,
      body: { source, note: shorten(`${text.subject}\n${description}`, 25_000) },
    }
  }
  return {
    url,
    headers,
    body: {
      message: shorten(text.subject, 130),
      alias: id,
      description: shorten(description, 15_000),
      source,
      priority: PRIORITIES[severity],
      entity: shorten(about === 'incident' ? message.body.incident.source : gateway, 512),
      tags: ['egress25', about === 'incident' ? message.body.incident.kind : about],
      details: Object.fromEntries(detailsOf(body).map(({ label, value }) => [label, shorten(value, 500)])),
    },
  }
}

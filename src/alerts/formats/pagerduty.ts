/** An event for PagerDuty's Events API v2: what begins triggers, what ends resolves, under one key. */
import { detailsOf } from './details.ts'
import type { Shape } from './http-request.ts'
import { shorten } from './shorten.ts'
import { threadOf } from './thread.ts'

export const PAGERDUTY_URL = 'https://events.pagerduty.com/v2/enqueue'

export const pagerduty: Shape = (message, { url, token }) => {
  const { about, text, body, severity, time, gateway } = message
  const { id, state } = threadOf(message)
  const source = about === 'incident' ? message.body.incident.source : gateway
  return {
    url,
    body: {
      routing_key: token,
      event_action: state === 'ends' ? 'resolve' : 'trigger',
      dedup_key: id,
      client: 'egress25',
      payload: {
        summary: shorten(text.subject, 1_024),
        source: shorten(source, 255),
        severity,
        timestamp: new Date(time).toISOString(),
        component: 'port 25',
        group: about === 'incident' ? message.body.incident.policy : gateway,
        class: about === 'incident' ? message.body.incident.kind : about,
        custom_details: {
          text: text.lines.join('\n'),
          ...Object.fromEntries(detailsOf(body).map(({ label, value }) => [label, value])),
        },
      },
    },
  }
}

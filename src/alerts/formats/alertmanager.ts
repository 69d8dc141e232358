/** A message as an alert of Alertmanager's API v2. */
import type { Message } from '../message.ts'
import { detailsOf } from './details.ts'
import { shorten } from './shorten.ts'
import { threadOf } from './thread.ts'
import { subscriberName } from './who.ts'

/** As it is posted, without its end. */
export interface Alert {
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  /** RFC 3339. */
  readonly startsAt: string
}

export interface AlertUpdate {
  /** Of what it is about, over all its messages. */
  readonly id: string
  readonly alert: Alert
  /** `lasts` until it is said to be over; `over`; `once` is said, and passes by itself. */
  readonly state: 'lasts' | 'over' | 'once'
}

/** Alertmanager takes alerts with the same labels for one: they hold what routes and groups, and nothing that moves. */
export function alertOf(message: Message): AlertUpdate {
  const { about, gateway, severity, time, text, body } = message
  const thread = threadOf(message)
  const incident = about === 'incident' ? message.body.incident : null
  // Its number: a name may become known later.
  const user = incident?.user
  const subscriber = incident === null ? null : subscriberName(incident)
  return {
    id: thread.id,
    state: thread.state === 'ends' ? 'over' : thread.state === 'once' ? 'once' : 'lasts',
    alert: {
      labels: {
        alertname: NAMES[about],
        gateway,
        severity,
        ...(incident === null
          ? { id: thread.id }
          : {
              incident: incident.id,
              kind: incident.kind,
              source: incident.source,
              ...(incident.policy === null ? {} : { policy: incident.policy }),
              ...(user === undefined || user === null ? {} : { uid: String(user.uid) }),
              ...(subscriber === null ? {} : { subscriber }),
            }),
      },
      annotations: {
        summary: text.subject,
        description: shorten(text.lines.join('\n'), 10_000),
        ...Object.fromEntries(detailsOf(body).map(({ name, value }) => [name, value])),
      },
      startsAt: incident?.first_seen ?? new Date(time).toISOString(),
    },
  }
}

const NAMES = {
  incident: 'Egress25Incident',
  digest: 'Egress25Digest',
  exemption: 'Egress25Exemption',
  drift: 'Egress25TableContested',
  preflight: 'Egress25Preflight',
  test: 'Egress25Test',
} as const

export function sameLabels(one: Alert, other: Alert): boolean {
  const [a, b] = [Object.entries(one.labels), Object.entries(other.labels)]
  return a.length === b.length && a.every(([name, value]) => other.labels[name] === value)
}

/** Who was behind an address, as the answers of several routes have it. */

import { parseAddress } from '../../policy/prefix.ts'
import type { RecentAttempt } from '../../store/attempts-query.ts'
import { SUBSCRIBER_SOURCES } from '../../subscribers/subscriber-source.ts'
import type { Subscribers } from '../../subscribers/subscribers.ts'
import { Count, Name, nullable, object, oneOf, Text, Time } from '../schemas.ts'

export const SubscriberSchema = object(
  {
    name: nullable(Text),
    account: nullable(Text),
    contact: nullable(Text),
    mac: nullable(Text),
    port: nullable(Text),
    source: Text,
    since: nullable(Time),
  },
  { title: 'Subscriber', description: 'who was behind an address at a time' },
)

export const SubscriberSourceSchema = object({
  name: Name,
  type: oneOf(SUBSCRIBER_SOURCES),
  entries: Count,
  faults: Count,
  refused: Count,
  read: nullable(Time),
  failure: nullable(Text),
})

/** Who made the attempt. */
export function subscriberOf(
  { source, sourcePort, time }: Pick<RecentAttempt, 'source' | 'sourcePort' | 'time'>,
  subscribers: Pick<Subscribers, 'find'>,
) {
  const address = parseAddress(source)
  return address === null ? null : subscribers.find(address, time, sourcePort)
}

/** How the sources are. */
export function subscriberSources(subscribers: Pick<Subscribers, 'status'>) {
  return subscribers.status().map(({ read, ...source }) => ({
    ...source,
    read: read === null ? null : new Date(read).toISOString(),
  }))
}

/** How people and programs are told that an exemption ends. */
import type { ExemptionNews } from '../alerts/message.ts'
import type { EndingExemption } from './lapse-watch.ts'
import type { Lapse } from './lapses.ts'

/** A message must fit a pager: an exemption may have 100,000 sources. */
export const MOST_SOURCES = 100

/** What channels are told; `now` in milliseconds since the epoch. */
export function lapseNews(
  { exemption, lead }: Lapse<EndingExemption>,
  gateway: string,
  now: number,
): ExemptionNews {
  const { name, expires, owner, ticket, reason, sources } = exemption
  const more = sources.length - MOST_SOURCES
  return {
    event: lead === 0 ? 'exemption-lapsed' : 'exemption-lapses',
    gateway,
    time: new Date(now).toISOString(),
    severity: 'info',
    exemption: {
      name,
      expires: new Date(expires).toISOString(),
      owner,
      ticket,
      reason,
      sources: sources.slice(0, MOST_SOURCES),
      ...(more > 0 ? { more_sources: more } : {}),
    },
  }
}

/** Makes the message unique: an end is announced once for each lead. */
export function lapseKey({ exemption: { name, expires }, lead }: Lapse<EndingExemption>): string {
  return `exemption/${name}/${expires}/${lead}`
}

/** How people and programs are told that an exemption ends, or was taken back. Times are milliseconds since the epoch. */
import type { ExemptionNews } from '../../alerts/message.ts'
import type { Lapse } from '../../exemptions/lapses.ts'
import type { DueRevocation } from '../../store/due-revocations.ts'
import type { EndingExemption } from './lapse-watch.ts'

/** A message must fit a pager: an exemption may have 100,000 sources. */
const MOST_SOURCES = 100

/** What channels are told of an end that comes, or has come. */
export function lapseNews(
  { exemption, lead }: Lapse<EndingExemption>,
  gateway: string,
  now: number,
): ExemptionNews {
  const expires = new Date(exemption.expires).toISOString()
  return {
    event: lead === 0 ? 'exemption-lapsed' : 'exemption-lapses',
    gateway,
    time: new Date(now).toISOString(),
    severity: 'info',
    exemption: factsOf({ ...exemption, expires }),
  }
}

/** Makes the message unique: an end is announced once for each lead. */
export function lapseKey({ exemption: { name, expires }, lead }: Lapse<EndingExemption>): string {
  return `exemption/${name}/${expires}/${lead}`
}

/** What channels are told when an exemption was revoked because of an incident of a host that it covers. */
export function revocationNews(
  { exemption, incident, time }: Pick<DueRevocation, 'exemption' | 'incident' | 'time'>,
  gateway: string,
): ExemptionNews {
  const { name, expires = null, owner = null, ticket = null, reason = null, sources } = exemption
  return {
    event: 'exemption-revoked',
    gateway,
    time: new Date(time).toISOString(),
    severity: 'warning',
    exemption: factsOf({ name, expires, owner, ticket, reason, sources }),
    incident,
  }
}

/** Makes the message unique: many may be revoked at once, and one again when it was made anew. */
export function revocationKey({ exemption: { name }, incident, time }: ExemptionNews): string {
  return `exemption-revoked/${name}/${incident}/${Date.parse(time)}`
}

function factsOf({
  name,
  expires,
  owner,
  ticket,
  reason,
  sources,
}: ExemptionNews['exemption']): ExemptionNews['exemption'] {
  const more = sources.length - MOST_SOURCES
  const told = { name, expires, owner, ticket, reason, sources: sources.slice(0, MOST_SOURCES) }
  return more > 0 ? { ...told, more_sources: more } : told
}

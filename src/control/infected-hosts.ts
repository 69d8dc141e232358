/** Which open incidents speak against an exemption. Pure. */
import type { Incident } from '../detect/incident.ts'
import { lastOf } from '../policy/address-ranges.ts'
import type { Exemption, Model } from '../policy/model.ts'
import { type Prefix, parsePrefix } from '../policy/prefix.ts'
import { holds, type PrefixSet, rankOf } from '../policy/prefix-set.ts'

/** A host with one of these is not to be let through without a second thought. */
const GRAVE: readonly Incident['kind'][] = ['spam-bot', 'exempt-host-anomaly']

/** An exemption would let through a host that is said to be infected; nothing was changed. */
export class OpenIncidentError extends Error {
  readonly incidents: readonly Incident[]

  constructor(incidents: readonly Incident[]) {
    const [first] = incidents
    super(
      `${first?.source} has an open incident (${first?.kind} ${first?.id}); to exempt it all the same say override_incident, and why`,
    )
    this.incidents = incidents
  }
}

export function isGrave({ kind, state }: Pick<Incident, 'kind' | 'state'>): boolean {
  return state === 'open' && GRAVE.includes(kind)
}

/** The grave incidents of hosts that the prefixes cover, or have a part of. */
export function graveIncidents(sources: PrefixSet, open: readonly Incident[]): Incident[] {
  return open.filter((incident) => {
    const host = isGrave(incident) ? parsePrefix(incident.source) : null
    return typeof host === 'object' && host !== null && overlaps(sources, host)
  })
}

/** The exemptions that cover a host, or a part of it. */
export function exemptionsOf({ exemptions }: Model, source: string): Exemption[] {
  const host = parsePrefix(source)
  return typeof host === 'object' ? exemptions.filter(({ sources }) => overlaps(sources, host)) : []
}

function overlaps(set: PrefixSet, host: Prefix): boolean {
  if (set.contains(host)) return true
  const last = lastOf(host)
  return set.parts.some(
    ({ family, length, addresses }) =>
      family === host.family &&
      length > host.length &&
      rankOf(addresses, last) > rankOf(addresses, host.address) - (holds(addresses, host.address) ? 1 : 0),
  )
}

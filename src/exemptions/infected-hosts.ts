/** Which open incidents speak against an exemption. Pure. */
import type { Incident } from '../detect/incident.ts'
import { lastOf } from '../policy/address-ranges.ts'
import type { Rate } from '../policy/formats.ts'
import type { Exemption, Model } from '../policy/model.ts'
import { type Prefix, parsePrefix } from '../policy/prefix.ts'
import { type PrefixSet, rankOf } from '../policy/prefix-set.ts'

/** A host with one of these is not to be let through without a second thought. */
const GRAVE: readonly Incident['kind'][] = ['spam-bot', 'exempt-host-anomaly']

const SECONDS: Readonly<Record<Rate['per'], number>> = { second: 1, minute: 60, hour: 3_600, day: 86_400 }

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

/**
 * The grave incidents of hosts that policies let through by an exemption, where the policies before did not, or less:
 * to fewer destinations, more slowly, or for a shorter time.
 * @param now milliseconds since the epoch: what has ended by then lets nobody through
 */
export function newlyExempted(
  before: Pick<Model, 'exemptions'> | null,
  after: Pick<Model, 'exemptions'>,
  open: readonly Incident[],
  now: number,
): Incident[] {
  const grave = open.filter(isGrave)
  if (grave.length === 0) return []
  const known = new Map(before?.exemptions.map((one) => [one.name, one]))
  const found = after.exemptions
    .filter(({ expires }) => expires === null || expires > now)
    .flatMap((exemption) => {
      const was = known.get(exemption.name)
      const against = graveIncidents(exemption.sources, grave)
      if (against.length === 0 || was === undefined || letsThroughMore(exemption, was)) return against
      return against.filter(({ source }) => !coversAsMuch(was.sources, exemption.sources, source))
    })
  return [...new Set(found)]
}

function letsThroughMore(is: Exemption, was: Exemption): boolean {
  return (
    (was.expires !== null && (is.expires === null || is.expires > was.expires)) ||
    (was.rate !== null && (is.rate === null || perSecond(is.rate) > perSecond(was.rate))) ||
    (was.destinations !== null && (is.destinations === null || !isWithin(is.destinations, was.destinations)))
  )
}

function perSecond({ count, per }: Rate): number {
  return count / SECONDS[per]
}

function isWithin(some: Iterable<Prefix>, all: PrefixSet): boolean {
  if (some === all) return true
  for (const prefix of some) if (!all.contains(prefix)) return false
  return true
}

/** Whether of a host all that a set covers was covered by another. */
function coversAsMuch(was: PrefixSet, is: PrefixSet, source: string): boolean {
  const host = parsePrefix(source)
  return typeof host === 'object' && host !== null && isWithin(partsOf(host, is), was)
}

/** The exemptions that cover a host, or a part of it. */
export function exemptionsOf({ exemptions }: Model, source: string): Exemption[] {
  const host = parsePrefix(source)
  return typeof host === 'object' ? exemptions.filter(({ sources }) => overlaps(sources, host)) : []
}

function overlaps(set: PrefixSet, host: Prefix): boolean {
  return partsOf(host, set).next().done !== true
}

/** What a set covers of a host, which is a prefix itself. */
function* partsOf(host: Prefix, set: PrefixSet): Generator<Prefix> {
  if (set.contains(host)) return yield host
  const last = lastOf(host)
  for (const { family, length, addresses } of set.parts) {
    if (family !== host.family || length <= host.length) continue
    for (let at = rankOf(addresses, last) - 1; at >= 0; at--) {
      const address = addresses[at]
      if (address === undefined || address < host.address) break
      yield { family, address, length } as Prefix
    }
  }
}

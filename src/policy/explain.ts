/** A verdict in words, with the document that decided it. */
import { covers, type Decision, decide, isInForce, type Packet } from './decide.ts'
import { cite, type Model } from './model.ts'
import { formatPrefix } from './prefix.ts'
import type { Kind } from './schema.ts'

export interface Explanation {
  readonly verdict: Decision['verdict']
  readonly reason: string
  readonly document: {
    readonly kind: Kind
    readonly name: string
    readonly file: string
    readonly line: number
  } | null
}

/** By which interface a packet leaves, and which of them the gateway calls outside; with none, all of them are. */
export interface Leaving {
  readonly outsideInterfaces: readonly string[]
  /** null: not known, and taken to be outside. */
  readonly by: string | null
}

const OUTBOUND: Leaving = { outsideInterfaces: [], by: null }

/** Explains the verdict on a packet at a time (milliseconds since the epoch). */
export function explain(
  model: Model,
  packet: Packet,
  now: number,
  { outsideInterfaces, by }: Leaving = OUTBOUND,
): Explanation {
  const outbound = outsideInterfaces.length === 0 || by === null || outsideInterfaces.includes(by)
  const decision = decide(model, { ...packet, outbound }, now)
  const document =
    'document' in decision
      ? {
          kind: decision.document.kind,
          name: decision.document.name,
          file: decision.document.origin.file,
          line: decision.document.origin.line,
        }
      : null
  const assumed = outsideInterfaces.length > 0 && by === null && decision.because !== 'other-port'
  const condition = assumed ? `, if it leaves by ${outsideInterfaces.join(' or ')}` : ''
  const reason =
    decision.because === 'not-outbound'
      ? `let through, because ${by} is not an outside interface: only what leaves by ${outsideInterfaces.join(' or ')} is outbound`
      : reasonOf(model, packet, decision, now) + condition
  return { verdict: decision.verdict, reason, document }
}

function reasonOf(
  model: Model,
  packet: Packet,
  decision: Exclude<Decision, { because: 'not-outbound' }>,
  now: number,
): string {
  const source = formatPrefix(packet.source)
  const destination = formatPrefix(packet.destination)
  switch (decision.because) {
    case 'other-port':
      return `allowed, because only TCP port 25 is looked at, not ${packet.port}`
    case 'relay-source':
      return `allowed, because ${source} is an address of ${cite('relay', decision.document)}`
    case 'relay-user':
      return `allowed, because the user ${packet.user} belongs to ${cite('relay', decision.document)}`
    case 'relay-client': {
      const who = decision.document.clients === null ? 'everyone' : `${source} among others`
      return `allowed, because ${destination} is an address of ${cite('relay', decision.document)}, to which ${who} may submit`
    }
    case 'exemption': {
      const { expires, rate } = decision.document
      const until = expires === null ? '' : ` until ${new Date(expires).toISOString()}`
      const within = rate === null ? '' : `, up to ${rate.count} new connections per ${rate.per}`
      return `allowed by ${cite('exemption', decision.document)}, which covers ${source}${until}${within}`
    }
    case 'policy': {
      const verb = { block: 'blocked', redirect: 'redirected', observe: 'observed and let through' }[
        decision.verdict
      ]
      const because = `${verb} by ${cite('policy', decision.document)}, because ${source} is in ${formatPrefix(decision.network)}`
      return because + lapsed(model, packet, now)
    }
    case 'ungoverned':
      return `let through, because no policy governs ${source}`
    default:
      return decision satisfies never
  }
}

/** The most frequent question after a block: it worked yesterday, why not today? */
function lapsed(model: Model, { source, destination }: Packet, now: number): string {
  const ended = model.exemptions
    .filter((exemption) => !isInForce(exemption, now) && covers(exemption, source, destination))
    .sort((a, b) => (b.expires ?? 0) - (a.expires ?? 0))[0]
  if (ended === undefined) return ''
  return `; ${cite('exemption', ended)} covered it until ${new Date(ended.expires ?? 0).toISOString()}`
}

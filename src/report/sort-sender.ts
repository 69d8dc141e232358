/**
 * What a machine that would be blocked looks like. Pure. Signals for a mail server and for a bot are weighed against
 * each other; where both are strong (a mail server that was broken into) or neither is, a person has to look.
 * docs/detection.md says how well it does.
 */
import type { NameEvidence, SenderEvidence, SenderGroup, SenderVerdict } from './evidence.ts'

interface Signal {
  readonly weight: number
  readonly reason: string
}

/** Fewer attempts than this say nothing. */
const FEW = 5
/** A client that is set up for port 25 has a server or two. */
const CLIENT_SERVERS = 3
/** The least of a conversation that hands over a message: greeting, envelope and text. */
const MAIL_SEGMENTS = 3
const MAIL_PAYLOAD = 300
/** From here on signals make a verdict; so much on the side of a bot does not stand against a mail server. */
const ENOUGH = 4
const BEARABLE = 2

export function sortSender(evidence: SenderEvidence): SenderVerdict {
  const { attempts, destinations } = evidence
  const server = serverSignals(evidence)
  const bot = botSignals(evidence)
  const [good, bad] = [sum(server), sum(bot)]
  const reasons = [...server, ...bot].map(({ reason }) => reason)
  const verdict = (group: SenderGroup, isSure = false): SenderVerdict => ({
    group,
    confidence: isSure ? 'definite' : 'likely',
    reasons,
  })
  if (attempts < FEW) {
    return { group: 'cannot-tell', confidence: 'likely', reasons: ['hardly any attempts', ...reasons] }
  }
  if (destinations <= CLIENT_SERVERS && !receives(evidence)) {
    const servers = destinations === 1 ? 'always the same server' : `${destinations} servers and no more`
    return { ...verdict('misconfigured-client'), reasons: [servers, ...reasons] }
  }
  if (good >= ENOUGH && bad <= BEARABLE) {
    return verdict('mail-server', good >= 2 * ENOUGH - 1 && bad === 0 && receives(evidence))
  }
  // Who receives mail or has a name of its own is no bot, or no mere bot: somebody has to look.
  if (bad >= ENOUGH && good < bad && !receives(evidence) && !hasOwnName(evidence)) {
    return verdict('bot', bad >= ENOUGH + 2 && good <= BEARABLE)
  }
  return verdict('cannot-tell')
}

function serverSignals(evidence: SenderEvidence): Signal[] {
  const { closed, activeHours, spanHours, received, name } = evidence
  const answered = answeredShare(evidence)
  return [
    ...when(closed >= FEW && answered >= 0.5, 1, `${percent(answered)} of its connections were answered`),
    ...when(
      closed >= FEW && carriesMail(evidence),
      2,
      `they were long enough to carry mail (${perConnection(evidence)})`,
    ),
    ...when(receives(evidence), 3, `it receives mail, too (${received.payload} bytes on port 25)`),
    ...when(
      activeHours >= 6 && spanHours >= 24 && activeHours >= spanHours / 8,
      1,
      `it sends steadily, in ${activeHours} of ${spanHours} hours`,
    ),
    ...when(
      name?.confirmed === true && !isGeneric(name),
      2,
      `its address has a name that leads back to it, ${name?.ptr}`,
    ),
  ]
}

function botSignals(evidence: SenderEvidence): Signal[] {
  const { attempts, destinations, destinationsInMinute, topShare, closed, name, incidents } = evidence
  const answered = answeredShare(evidence)
  return [
    ...when(
      attempts >= 20 && answered < 0.4,
      2,
      `only ${percent(answered)} of its attempts were answered and closed in order`,
    ),
    ...when(
      closed >= FEW && !carriesMail(evidence),
      2,
      `its connections were too short to carry mail (${perConnection(evidence)})`,
    ),
    ...when(destinationsInMinute >= 20, 2, `it tried ${destinationsInMinute} servers within a minute`),
    ...when(
      destinations >= 30 && topShare < 0.15,
      1,
      `${destinations} servers, none of them much more than others`,
    ),
    ...when(
      name !== null && (name.ptr === null || isGeneric(name)),
      1,
      name?.ptr == null ? 'its address has no name' : `its name is one of a pool, ${name.ptr}`,
    ),
    ...when(
      incidents.includes('spam-bot') || incidents.includes('scanner'),
      1,
      `it had an incident: ${incidents.join(', ')}`,
    ),
  ]
}

function when(isSo: boolean, weight: number, reason: string): Signal[] {
  return isSo ? [{ weight, reason }] : []
}

function sum(signals: readonly Signal[]): number {
  return signals.reduce((total, { weight }) => total + weight, 0)
}

function answeredShare({ closed, attempts }: SenderEvidence): number {
  return Math.min(1, closed / Math.max(1, attempts))
}

function carriesMail({ closed, segments, payload }: SenderEvidence): boolean {
  return segments / Math.max(1, closed) >= MAIL_SEGMENTS && payload / Math.max(1, closed) >= MAIL_PAYLOAD
}

/** More than somebody who tried the port. */
function receives({ received }: SenderEvidence): boolean {
  return received.segments >= 2 * MAIL_SEGMENTS && received.payload >= 2 * MAIL_PAYLOAD
}

function hasOwnName({ name }: SenderEvidence): boolean {
  return name?.confirmed === true && !isGeneric(name)
}

function perConnection({ closed, segments, payload }: SenderEvidence): string {
  const each = (total: number) => Math.round(total / Math.max(1, closed))
  return `${each(segments)} packets with ${each(payload)} bytes each`
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

/** Names that providers give to pools: the address is in them, or they say so. */
export function isGeneric({ ptr }: Pick<NameEvidence, 'ptr'>): boolean {
  if (ptr === null) return true
  const name = ptr.toLowerCase()
  return (
    /(^|[.-])(dyn|dynamic|dhcp|pool|ppp|pppoe|dsl|adsl|cable|dial|dialup|client|cust|customer|broadband|home|host|static)\d*([.-]|$)/.test(
      name,
    ) ||
    /\d{1,3}[.-]\d{1,3}[.-]\d{1,3}[.-]\d{1,3}/.test(name) ||
    /(^|[.-])[0-9a-f]{8}([.-]|$)/.test(name)
  )
}

/**
 * What a machine that would be blocked looks like. Pure. Nobody is a mail server by how he sends alone, since a bot can send
 * likewise: it must also receive mail, or have a name of its own. docs/detection.md has each rule in a sentence, and says
 * how well they do.
 */
import type { NameEvidence, SenderEvidence, SenderGroup, SenderVerdict } from './evidence.ts'

/** Fewer attempts or connections than this say nothing. */
const FEW = 5
/** A client that is set up for port 25 has a server or a few, and tries them again and again. */
const CLIENT = { servers: 5, tries: 3 }
/** The least of a conversation that hands over a message: greeting, envelope and text. */
const MAIL = { segments: 3, payload: 300 }
/** Who is looked at by scanners has many short words said to it; a message has lines. Bytes of a packet, on average. */
const LINES = 100
/** Shares of attempts that were answered: half is enough for mail, nine in ten for mail to very many. */
const ANSWERED = { mail: 0.5, many: 0.9, bot: 0.4 }
/** What it did on its busiest day it did, by a third at least, in the other half of the time as well. */
const RECURS = 1 / 3
const MANY_SERVERS = 20
const IN_MINUTE = 20
const IN_HOUR = 600
/** Servers, and how often each was tried, on average. */
const EVER_NEW = { servers: 30, tries: 2.5 }

export function sortSender(evidence: SenderEvidence): SenderVerdict {
  const { attempts, destinations } = evidence
  const forServer = serverReasons(evidence)
  const many = manyReasons(evidence)
  const unlikeMail = unlikeMailReasons(evidence)
  const signs = many.length + unlikeMail.length
  const verdict = (group: SenderGroup, isSure = false, why: readonly string[] = []): SenderVerdict => ({
    group,
    confidence: isSure ? 'definite' : 'likely',
    reasons: [...why, ...forServer, ...many, ...unlikeMail],
  })
  if (attempts < FEW) return verdict('cannot-tell', false, ['hardly any attempts'])
  if (isClient(evidence)) {
    const servers = destinations === 1 ? 'always the same server' : `${destinations} servers and no more`
    return verdict('misconfigured-client', false, [servers])
  }
  if (carriesMail(evidence) && answeredShare(evidence) >= ANSWERED.mail) {
    // Only who receives mail may look a little like a bot: its list is kept clean, and it has had it for long.
    const isKept = answeredShare(evidence) >= ANSWERED.many && recurs(evidence)
    if (receives(evidence) && unlikeMail.length === 0 && (many.length === 0 || isKept)) {
      return verdict('mail-server', hasOwnName(evidence) && recurs(evidence) && many.length === 0)
    }
    if (hasOwnName(evidence) && recurs(evidence) && signs === 0) return verdict('mail-server')
  }
  // Who receives mail is no mere bot: somebody has to look.
  if (receives(evidence)) return verdict('cannot-tell')
  // Whom nearly all answer may send what was asked for; and a bot seldom has a name of its own.
  const mayBeAsked =
    hasOwnName(evidence) || (carriesMail(evidence) && answeredShare(evidence) >= ANSWERED.many)
  const isBot = signs >= 2 && (!mayBeAsked || (many.length > 0 && unlikeMail.length > 0))
  return isBot ? verdict('bot', signs >= 3) : verdict('cannot-tell')
}

/** A few servers, tried patiently; where somebody answers, mail is handed over. */
function isClient(evidence: SenderEvidence): boolean {
  const { destinations, triesPerServer, closed } = evidence
  return (
    destinations <= CLIENT.servers &&
    triesPerServer >= CLIENT.tries &&
    !receives(evidence) &&
    !isSuspect(evidence) &&
    (closed < FEW || carriesMail(evidence))
  )
}

function serverReasons(evidence: SenderEvidence): string[] {
  const { closed, activeHours, spanHours, received, name } = evidence
  return [
    ...when(closed >= FEW, `${percent(answeredShare(evidence))} of its attempts were answered`),
    ...when(carriesMail(evidence), `long enough to carry mail (${perConnection(evidence)})`),
    ...when(receives(evidence), `it receives mail, too (${received.payload} bytes on port 25)`),
    ...when(recurs(evidence), `it does so since long, in ${activeHours} of ${spanHours} hours`),
    ...when(hasOwnName(evidence), `its address has a name that leads back to it, ${name?.ptr}`),
    ...when(name !== null && name.ptr === null, 'its address has no name'),
    ...when(name?.ptr != null && isGeneric(name), `its name is one of a pool, ${name?.ptr}`),
  ]
}

/** What bots do, and who sends to very many. */
function manyReasons(evidence: SenderEvidence): string[] {
  const { destinationsInMinute, busiestHour, incidents } = evidence
  return [
    ...when(isSuspect(evidence), `it had an incident: ${incidents.join(', ')}`),
    ...when(destinationsInMinute >= IN_MINUTE, `it tried ${destinationsInMinute} servers within a minute`),
    ...when(busiestHour >= IN_HOUR, `${busiestHour} attempts within an hour`),
  ]
}

/** What bots do, and no mail server does. */
function unlikeMailReasons(evidence: SenderEvidence): string[] {
  const { attempts, destinations, triesPerServer, closed } = evidence
  return [
    ...when(
      attempts >= MANY_SERVERS && answeredShare(evidence) < ANSWERED.bot,
      'most of its attempts were not answered, or not closed in order',
    ),
    ...when(
      destinations >= MANY_SERVERS && closed >= FEW && !carriesMail(evidence),
      `its connections were too short to carry mail (${perConnection(evidence)})`,
    ),
    ...when(
      destinations >= EVER_NEW.servers && triesPerServer < EVER_NEW.tries,
      `${destinations} servers and more, hardly any of them twice`,
    ),
  ]
}

function when(isSo: boolean, reason: string): string[] {
  return isSo ? [reason] : []
}

function isSuspect({ incidents }: SenderEvidence): boolean {
  return incidents.includes('spam-bot') || incidents.includes('scanner')
}

function answeredShare({ closed, attempts }: SenderEvidence): number {
  return Math.min(1, closed / Math.max(1, attempts))
}

function carriesMail({ closed, segments, payload }: SenderEvidence): boolean {
  return closed >= FEW && segments / closed >= MAIL.segments && payload / closed >= MAIL.payload
}

/** More than somebody who tried the port, and more than many who did. */
function receives({ received: { segments, payload } }: SenderEvidence): boolean {
  return segments >= 2 * MAIL.segments && payload >= 2 * MAIL.payload && payload / segments >= LINES
}

function recurs({ recurrence }: SenderEvidence): boolean {
  return recurrence >= RECURS
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
    /(^|[.-])(dyn|dynamic|dhcp|pool|ppp|pppoe|dsl|adsl|cable|dial|dialup|dip|client|cust|customer|broadband|home|host|static)\d*([.-]|$)/.test(
      name,
    ) ||
    /\d{1,3}[.-]\d{1,3}[.-]\d{1,3}[.-]\d{1,3}/.test(name) ||
    /\d{8}/.test(name) ||
    /(^|[.-])[a-z]{0,4}(?=[0-9a-f]*\d)[0-9a-f]{8}([.-]|$)/.test(name)
  )
}

/** An incident in a sentence or two: what happened, how sure we are, and what to do. */
import type { Incident } from './incident.ts'

export function summarize(incident: Omit<Incident, 'summary'>): string {
  return [did(incident), came(incident), ran(incident), meaning(incident)]
    .filter((text) => text !== '')
    .join(' ')
}

function did(incident: Omit<Incident, 'summary'>): string {
  const { kind, policy, attempts, destinations, verdict, topDestinations, evidence } = incident
  const who = subject(incident)
  const within = span(incident.lastSeen - incident.firstSeen)
  if (kind === 'flood') {
    return `About ${number(evidence.sources)} addresses in the networks of policy ${policy} tried port 25 ${number(attempts)} times within ${within}, hardly more than once each; ${fate(verdict)}.`
  }
  const servers =
    destinations === 1 && topDestinations[0] !== undefined
      ? `one server (${topDestinations[0].destination})`
      : `${number(destinations)} ${kind === 'scanner' ? 'addresses' : 'mail servers'}`
  if (kind === 'exempt-host-anomaly') {
    const { usual, window } = evidence
    const before =
      usual === null ? '' : `, where it never had more than ${usual.attempts} to ${usual.destinations}`
    return `${who}, which may send, opened ${number(evidence.attempts)} connections to ${number(evidence.destinations)} mail servers within ${span(window)}${before}.`
  }
  if (evidence.rule === 'count' && destinations === 0) {
    return `${who} tried port 25 ${number(attempts)} times within ${within}, by the kernel's count; where to is not known, because the details were lost; ${fate(verdict)}.`
  }
  return `${who} tried port 25 at ${servers} ${number(attempts)} times within ${within}; ${fate(verdict)}.`
}

/** Where a machine that cannot be found by its address can be found all the same. */
function came({ kind, interfaces, hardwareAddresses }: Omit<Incident, 'summary'>): string {
  if (kind !== 'flood') return ''
  const [place] = interfaces
  const [hardware] = hardwareAddresses
  if (place === undefined && hardware === undefined) return ''
  const by = place === undefined ? '' : ` by interface ${place}`
  const from = hardware === undefined ? '' : ` from hardware address ${hardware}`
  return `Most of it came${by}${from}.`
}

/** Whoever looks for it finds it by its path: its name it may have made up. */
function ran({ process }: Omit<Incident, 'summary'>): string {
  if (process === null) return ''
  return `One of the attempts was made by ${process.name}${process.path === null ? '' : ` (${process.path})`}.`
}

function subject({ source, user }: Omit<Incident, 'summary'>): string {
  return user === null ? source : `User ${user.name ?? user.uid} on ${source}`
}

function meaning({ kind, confidence, evidence, user }: Omit<Incident, 'summary'>): string {
  const isDefinite = confidence === 'definite'
  switch (kind) {
    case 'spam-bot': {
      const slowly = evidence.rule === 'slow-fan-out' ? ', slowly, so as not to be noticed' : ''
      if (user !== null)
        return `The account is ${isDefinite ? 'certainly' : 'very likely'} used to send spam${slowly}: stop its processes, and find out how they got there.`
      return `It is ${isDefinite ? 'certainly' : 'very likely'} infected and sending spam${slowly}: take it off the network and clean it.`
    }
    case 'misconfigured-client':
      if (user !== null)
        return `One of the user's programs ${isDefinite ? 'is' : 'seems to be'} set up for port 25: point it at port 587 or 465, or at a relay.`
      return `It ${isDefinite ? 'is' : 'looks like'} a mail program or device set up for port 25: point it at port 587 or 465, or at a relay.`
    case 'exempt-host-anomaly':
      if (user !== null)
        return `${isDefinite ? 'Very likely the program was' : 'The program may have been'} broken into, or an account that it sends for${isDefinite ? '' : ', or it sends more than it used to'}: see what it sends, and stop it until it is clear.`
      return `${isDefinite ? 'Very likely it or an account on it was broken into' : 'It may have been broken into, or send more than it used to'}: ask its owner, and revoke its exemption until it is clear.`
    case 'scanner':
      if (user !== null)
        return `The addresses are next to each other: the account ${isDefinite ? 'is' : 'is very likely'} used to search the internet for mail servers, as malware does. Stop its processes, unless its owner can say what they are for.`
      return `The addresses are next to each other: it ${isDefinite ? 'searches' : 'very likely searches'} the internet for mail servers, as malware does. Take it off the network and clean it, unless its owner can say what it is for.`
    case 'flood':
      return `The addresses are ${isDefinite ? 'certainly' : 'very likely'} forged, so they do not name the machine: find the port it is behind, and let no address pass there but its own (BCP 38).`
    default:
      return kind satisfies never
  }
}

function fate(verdict: Incident['verdict']): string {
  switch (verdict) {
    case 'block':
      return 'all were blocked'
    case 'redirect':
      return 'all were redirected'
    case 'observe':
      return 'none was blocked (mode observe)'
    case 'allow':
      return 'all were let through'
    default:
      return verdict satisfies never
  }
}

function number(count: number): string {
  return count.toLocaleString('en-GB')
}

function span(milliseconds: number): string {
  const seconds = Math.max(1, Math.round(milliseconds / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`
  return `${Math.round(seconds / 86_400)} days`
}

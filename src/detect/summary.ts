/** An incident in a sentence or two: what happened, how sure we are, and what to do. */
import type { Incident } from './incident.ts'

export function summarize(incident: Omit<Incident, 'summary'>): string {
  const { kind, confidence, source, attempts, destinations, verdict, topDestinations } = incident
  const fate = {
    block: 'all were blocked',
    redirect: 'all were redirected',
    observe: 'none was blocked (mode observe)',
    allow: 'it may',
  }
  const seconds = Math.max(1, Math.round((incident.lastSeen - incident.firstSeen) / 1000))
  const servers =
    destinations === 1 ? `one server (${topDestinations[0]?.destination})` : `${destinations} mail servers`
  const did = `${source} tried port 25 at ${servers} ${attempts} times within ${span(seconds)}; ${fate[verdict]}.`
  switch (kind) {
    case 'spam-bot':
      return `${did} It is ${confidence === 'definite' ? 'certainly' : 'very likely'} infected and sending spam: take it off the network and clean it.`
    case 'misconfigured-client':
      return `${did} It looks like a mail program or device set up for port 25: point it at port 587 or 465, or at a relay.`
    case 'exempt-host-anomaly':
    case 'scanner':
    case 'flood':
      return did
    default:
      return kind satisfies never
  }
}

function span(seconds: number): string {
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`
  return `${Math.round(seconds / 3_600)} h`
}

/** How bad it is. An incident that is updated or resolved is as severe as it was, or more so: whoever hears of it at all hears of its end. */
import type { Incident } from '../../detect/incident.ts'
import { SEVERITIES, type Severity } from '../message.ts'

/** A machine that offends again and again is worse than what it does. */
export interface Escalation {
  /** From this incident on, within the span. */
  readonly incidents: number
  /** Milliseconds. */
  readonly within: number
}

/** `occurrence`: which incident of this machine it is; 1 is the first. */
export function incidentSeverity(
  { kind, confidence }: Pick<Incident, 'kind' | 'confidence'>,
  occurrence: number,
  escalation: Escalation,
): Severity {
  const severity = ofKind(kind, confidence)
  return occurrence >= escalation.incidents ? oneUp(severity) : severity
}

export function isAtLeast(severity: Severity, least: Severity): boolean {
  return SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(least)
}

export function worstOf(severities: Iterable<Severity>): Severity {
  let worst: Severity = 'info'
  for (const one of severities) if (isAtLeast(one, worst)) worst = one
  return worst
}

function ofKind(kind: Incident['kind'], confidence: Incident['confidence']): Severity {
  switch (kind) {
    case 'misconfigured-client':
      return 'info'
    case 'scanner':
    case 'flood':
      return 'warning'
    case 'spam-bot':
    case 'exempt-host-anomaly':
      return confidence === 'definite' ? 'critical' : 'warning'
    default:
      return kind satisfies never
  }
}

function oneUp(severity: Severity): Severity {
  return SEVERITIES[SEVERITIES.indexOf(severity) + 1] ?? severity
}

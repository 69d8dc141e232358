/** What channels are told of the preflight. */
import type { PreflightNews } from '../alerts/message.ts'
import { type Finding, PREFLIGHT_CODES } from '../kernel/preflight.ts'

/** By which a finding is known over restarts: what it says is part of it. */
export function preflightSubject({ code, message }: Finding): string {
  return `${code}/${message}`
}

export function findingOf(subject: string): Finding {
  const code = PREFLIGHT_CODES.find((one) => subject.startsWith(`${one}/`)) ?? 'clock-unsynchronised'
  return { code, message: subject.slice(subject.indexOf('/') + 1) }
}

export function preflightNews({ code, message }: Finding, isThere: boolean, gateway: string): PreflightNews {
  return {
    event: isThere ? 'preflight-appeared' : 'preflight-gone',
    gateway,
    time: new Date().toISOString(),
    severity: 'warning',
    preflight: { code, message },
  }
}

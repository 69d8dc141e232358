/** Whether all is well, in one glance: what the status of the service means. Pure. */
import type { Status } from './answers.ts'
import { countOf, formatNumber, formatTime } from './words.ts'

/** `note`: worth a look; `trouble`: somebody must act. */
export type Level = 'good' | 'note' | 'trouble'

export interface Fact {
  readonly label: string
  readonly value: string
  readonly detail: string
  readonly level: Level
}

export interface Health {
  readonly level: Level
  readonly headline: string
  /** Always the same ones, at the same places. */
  readonly facts: readonly Fact[]
  /** Sentences about what is wrong; most of the time none. */
  readonly warnings: readonly string[]
}

/** Messages to one channel that have not arrived; fewer are on their way. */
const MANY_WAITING = 10

export function healthOf(status: Status): Health {
  const facts = [
    rulesFact(status),
    watchFact(status),
    driftFact(status),
    lossFact(status),
    machineFact(status),
  ]
  const warnings = warningsOf(status)
  const troubles = facts.filter(({ level }) => level === 'trouble').length
  const open = Object.values(status.incidents.open).reduce((sum, count) => sum + count, 0)
  const notes = warnings.length
  const level = troubles > 0 ? 'trouble' : notes > 0 ? 'note' : 'good'
  return { level, headline: headlineOf(troubles, notes, open), facts, warnings }
}

function headlineOf(troubles: number, notes: number, open: number): string {
  const machines = open === 0 ? '' : `, ${countOf(open, 'open incident')}`
  if (troubles > 0)
    return `${troubles === 1 ? 'Something is wrong' : `${troubles} things are wrong`}${machines}`
  if (notes > 0) return `The rules are in force, with ${countOf(notes, 'warning')}${machines}`
  return open === 0 ? 'All is well' : `The gateway is well${machines}`
}

function rulesFact({ in_sync, ruleset, contested, held, refused, pending }: Status): Fact {
  const fact = (value: string, detail: string, level: Level): Fact => ({
    label: 'Rules',
    value,
    detail,
    level,
  })
  if (ruleset === null) return fact('None', 'No policies are in force.', 'trouble')
  if (!in_sync) return fact('Not in force', 'The kernel does not hold the rules.', 'trouble')
  if (contested) return fact('Contested', 'Another program changes them again and again.', 'trouble')
  if (held !== null) return fact('Held', 'A change was taken back; the policy files still say it.', 'trouble')
  if (refused !== null)
    return fact('Last good', 'The policy files have mistakes, and are not in force.', 'trouble')
  if (pending !== null)
    return fact('On trial', 'The last change is taken back unless it is confirmed.', 'note')
  return fact('In force', 'The kernel holds what was applied.', 'good')
}

function watchFact({ events: { listening } }: Status): Fact {
  return listening
    ? { label: 'Watch', value: 'Listening', detail: 'Attempts are seen one by one.', level: 'good' }
    : { label: 'Watch', value: 'Deaf', detail: 'Attempts are counted, but not seen.', level: 'trouble' }
}

function driftFact({ drift }: Status): Fact {
  const detail = drift === 0 ? 'Nobody else touched the rules.' : 'Changes by others, put right.'
  return { label: 'Drift', value: formatNumber(drift), detail, level: 'good' }
}

function lossFact({ events: { lost } }: Status): Fact {
  const detail = lost === 0 ? 'Every attempt is known in detail.' : 'Attempts known by their number only.'
  return { label: 'Events lost', value: formatNumber(lost), detail, level: 'good' }
}

function machineFact({ preflight }: Status): Fact {
  const detail = preflight.length === 0 ? 'Nothing here gets in the way.' : 'Something here gets in the way.'
  const level = preflight.length === 0 ? 'good' : 'note'
  return { label: 'Machine warnings', value: formatNumber(preflight.length), detail, level }
}

function warningsOf({ pending, preflight, warnings, history, subscribers, alerts }: Status): string[] {
  return [
    ...(pending === null
      ? []
      : [
          `The last change is taken back at ${formatTime(Date.parse(pending.deadline))}, unless it is confirmed`,
        ]),
    ...preflight.map(({ message }) => capitalised(message)),
    ...(history.failure === null ? [] : [`Attempts cannot be remembered: ${history.failure}`]),
    ...subscribers.flatMap(({ name, failure }) =>
      failure === null ? [] : [`The subscribers of ${name} cannot be read: ${failure}`],
    ),
    ...Object.entries(alerts.waiting)
      .filter(([, count]) => count >= MANY_WAITING)
      .map(([channel, count]) => `${countOf(count, 'alert')} to ${channel} did not arrive yet`),
    ...warnings.map(({ file, line, message }) => `${file}:${line}: ${message}`),
  ]
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

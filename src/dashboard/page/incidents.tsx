/** Machines that misbehave now. */
import { useState } from 'preact/hooks'
import type { Incident } from './answers.ts'
import { formatMoment, formatNumber, formatSpan, kindOf } from './words.ts'

/** So many fit on a wall. */
const FEW = 4

interface IncidentsProps {
  readonly incidents: readonly Incident[] | null
  /** How many there are of each kind, also of those that are not listed. */
  readonly open: Readonly<Record<string, number>>
  readonly now: number
}

export function Incidents({ incidents, open, now }: IncidentsProps) {
  const [all, setAll] = useState(false)
  const total = Object.values(open).reduce((sum, count) => sum + count, 0)
  const sorted = [...(incidents ?? [])].sort(byUrgency)
  const shown = all ? sorted : sorted.slice(0, FEW)
  return (
    <section class="incidents" aria-labelledby="incidents">
      <h2 id="incidents">
        Open incidents <span class="count">{total > 0 && formatNumber(total)}</span>
      </h2>
      {incidents !== null && incidents.length === 0 && <p class="empty">No machine misbehaves.</p>}
      <ul>
        {shown.map((incident) => (
          <Item key={incident.id} incident={incident} now={now} />
        ))}
      </ul>
      {sorted.length > FEW && (
        <button type="button" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${formatNumber(sorted.length)}`}
        </button>
      )}
    </section>
  )
}

function Item({ incident, now }: { incident: Incident; now: number }) {
  const { kind, confidence, source, user, subscriber, attempts, acknowledged, summary } = incident
  const since = Date.parse(incident.first_seen)
  const behind = [subscriber?.name, subscriber?.account, subscriber?.port].filter((part) => part).join(', ')
  // On a shared host the user is who it is, and the subscriber the same again.
  const who = user === null ? behind : `user ${user.name ?? user.uid}`
  return (
    <li data-sure={confidence} data-acknowledged={acknowledged}>
      <p class="kind">
        {kindOf(kind)} <span class="sure">{confidence}</span>
        {acknowledged && <span class="sure">somebody looks after it</span>}
      </p>
      <h3>
        {source} {who !== '' && <span class="who">{who}</span>}
      </h3>
      <p class="number">
        <strong>{formatNumber(attempts)}</strong> {attempts === 1 ? 'attempt' : 'attempts'}
      </p>
      <p class="since">
        since {formatMoment(since, now)} ({formatSpan(now - since)})
      </p>
      <p class="summary">{summary}</p>
    </li>
  )
}

/** What nobody looks after and is certain comes first, then the latest. */
function byUrgency(a: Incident, b: Incident): number {
  const urgency = ({ acknowledged, confidence }: Incident) =>
    (acknowledged ? 0 : 2) + (confidence === 'definite' ? 1 : 0)
  return urgency(b) - urgency(a) || b.last_seen.localeCompare(a.last_seen)
}

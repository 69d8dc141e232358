/** The shorter lists: machines with the most attempts, exemptions that end, what was changed. */
import type { ComponentChildren } from 'preact'
import type { Exemption, Machine } from './answers.ts'
import type { Change } from './changes.ts'
import { formatMoment, formatNumber, formatSpan } from './words.ts'

/** So many fit on a wall. */
const FEW = 6
const FEW_MACHINES = 4

interface ListProps {
  readonly id: string
  readonly title: string
  readonly empty: string | null
  readonly children: ComponentChildren
}

function List({ id, title, empty, children }: ListProps) {
  return (
    <section class={id} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {empty !== null && <p class="empty">{empty}</p>}
      {children}
    </section>
  )
}

const emptyOf = (items: readonly unknown[] | null, sentence: string) =>
  items !== null && items.length === 0 ? sentence : null

export function TopMachines({ machines, now }: { machines: readonly Machine[] | null; now: number }) {
  const most = machines?.[0]?.attempts ?? 1
  return (
    <List
      id="machines"
      title="Most attempts in 24 hours"
      empty={emptyOf(machines, 'No machine tried port 25.')}
    >
      <ol>
        {machines?.slice(0, FEW_MACHINES).map(({ source, attempts, last_seen }) => (
          <li key={source}>
            <span class="what">{source}</span>
            <span class="aside">last {formatMoment(Date.parse(last_seen), now)}</span>
            <span class="number">{formatNumber(attempts)}</span>
            <meter aria-hidden="true" min={0} max={most} value={attempts} />
          </li>
        ))}
      </ol>
    </List>
  )
}

export function EndingExemptions({ ending, now }: { ending: readonly Exemption[] | null; now: number }) {
  return (
    <List id="ending" title="Exemptions that end soon" empty={emptyOf(ending, 'None ends within 30 days.')}>
      <ul>
        {ending?.slice(0, FEW).map(({ name, sources, expires = '', owner, ticket, description, reason }) => (
          <li key={name}>
            <span class="what">{name}</span>
            <span class="number">in {formatSpan(Date.parse(expires) - now)}</span>
            <span class="aside">
              {[sourcesOf(sources), owner, ticket, reason ?? description].filter(Boolean).join(' · ')}
            </span>
          </li>
        ))}
      </ul>
      {(ending?.length ?? 0) > FEW && (
        <p class="aside">and {formatNumber((ending?.length ?? 0) - FEW)} more within 30 days</p>
      )}
    </List>
  )
}

export function LatestChanges({ changes, now }: { changes: readonly Change[]; now: number }) {
  return (
    <List id="changes" title="Latest changes" empty={emptyOf(changes, 'Nothing was changed lately.')}>
      <ul>
        {changes.slice(0, FEW).map(({ id, time, text, isTrouble }) => (
          <li key={id} data-trouble={isTrouble}>
            <time class="aside" dateTime={new Date(time).toISOString()}>
              {formatMoment(time, now)}
            </time>
            <span class="text">{text}</span>
          </li>
        ))}
      </ul>
    </List>
  )
}

function sourcesOf(sources: readonly string[]): string {
  const [first = ''] = sources
  return sources.length > 1 ? `${first} and ${formatNumber(sources.length - 1)} more` : first
}

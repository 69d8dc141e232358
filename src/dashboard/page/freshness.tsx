/** How old is what the page shows. Nobody may take yesterday's calm for today's. */
import { formatSpan, formatTime } from './words.ts'

/** Milliseconds: three questions in a row without an answer. */
const STALE = 16_000

export const isStale = (heard: number | null, now: number): boolean => heard === null || now - heard > STALE

interface FreshnessProps {
  readonly gateway: string
  readonly heard: number | null
  readonly failure: string | null
  readonly now: number
}

export function Freshness({ gateway, heard, failure, now }: FreshnessProps) {
  const old = heard !== null && isStale(heard, now)
  return (
    <header>
      <p class="brand">egress25</p>
      <p class="gateway">{gateway}</p>
      <p class="heard">{heard === null ? (failure ?? 'Asking the service …') : !old && 'Live'}</p>
      <div role="alert" class="stale-place">
        {old && (
          <p class="stale">
            <strong>Out of date.</strong> No word from the service since {formatTime(heard)}
            <span aria-hidden="true"> ({formatSpan(now - heard)})</span>. {failure}
          </p>
        )}
      </div>
    </header>
  )
}

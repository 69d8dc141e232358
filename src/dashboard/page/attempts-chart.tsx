/** Attempts over time, of one policy or of all. */
import { useEffect, useRef } from 'preact/hooks'
import type { Series } from './answers.ts'
import { SPANS } from './choice.ts'
import { type Drawing, drawing } from './drawing.ts'
import type { Choice } from './live.ts'
import { countOf, formatMoment, formatNumber } from './words.ts'

interface AttemptsChartProps {
  readonly series: Series | null
  readonly choice: Choice
  readonly policies: readonly string[]
  readonly onChoose: (choice: Choice) => void
}

export function AttemptsChart({ series, choice, policies, onChoose }: AttemptsChartProps) {
  const place = useRef<HTMLDivElement>(null)
  const drawn = useRef<Drawing | null>(null)
  useEffect(() => {
    if (place.current === null) return
    drawn.current = drawing(place.current)
    return () => drawn.current?.remove()
  }, [])
  useEffect(() => {
    if (series !== null) drawn.current?.show(series)
  }, [series])

  const names = [...new Set([...policies, ...(choice.policy === null ? [] : [choice.policy])])].sort()
  return (
    <section class="attempts" aria-labelledby="attempts">
      <h2 id="attempts">Attempts</h2>
      <form class="choice" onSubmit={(event) => event.preventDefault()}>
        <label>
          <span class="unseen">Policy</span>
          <select
            value={choice.policy ?? ''}
            onChange={({ currentTarget: { value } }) =>
              onChoose({ ...choice, policy: value === '' ? null : value })
            }
          >
            <option value="">all policies</option>
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <fieldset>
          <legend class="unseen">Time</legend>
          {SPANS.map(({ name, label, milliseconds }) => (
            <label key={name}>
              <input
                type="radio"
                name="span"
                checked={choice.span === milliseconds}
                onChange={() => onChoose({ ...choice, span: milliseconds })}
              />
              <span>{label}</span>
            </label>
          ))}
        </fieldset>
      </form>
      <p class="said">{series === null ? '…' : sentenceOf(series)}</p>
      <div class="chart" ref={place} aria-hidden="true" />
    </section>
  )
}

/** What the picture shows, for whoever cannot see it. */
function sentenceOf({ step, points, to }: Series): string {
  const total = points.reduce((sum, { attempts }) => sum + attempts, 0)
  if (total === 0) return 'None.'
  const most = points.reduce((a, b) => (b.attempts > a.attempts ? b : a))
  const at = formatMoment(Date.parse(most.time), Date.parse(to))
  return `${countOf(total, 'attempt')}; most in one ${step}: ${formatNumber(most.attempts)}, at ${at}.`
}

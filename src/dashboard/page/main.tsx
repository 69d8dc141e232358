/** The dashboard: a page on the wall, and on the phone of whoever is called at night. */
import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { AttemptsChart } from './attempts-chart.tsx'
import { readChoice, writeChoice } from './choice.ts'
import { Freshness, isStale } from './freshness.tsx'
import { Headline } from './headline.tsx'
import { Incidents } from './incidents.tsx'
import { EndingExemptions, LatestChanges, TopMachines } from './lists.tsx'
import { type Choice, Live, type View } from './live.ts'
import { TokenForm } from './token-form.tsx'

function Dashboard({ live }: { live: Live }) {
  const [view, setView] = useState<View>(live.view)
  const now = useClock()
  useEffect(() => live.start(setView), [live])
  const { status, heard } = view
  const old = isStale(heard, now)
  useEffect(() => {
    const name = status === null ? 'egress25' : `${status.gateway} · egress25`
    document.title = old && heard !== null ? `Out of date: ${name}` : name
  }, [status, old, heard])

  if (view.asksForToken !== null)
    return <TokenForm why={view.asksForToken} onToken={(token) => live.useToken(token)} />
  const choose = (choice: Choice) => {
    history.replaceState(null, '', writeChoice(choice))
    live.choose(choice)
  }
  return (
    <>
      <Freshness gateway={status?.gateway ?? ''} heard={heard} failure={view.failure} now={now} />
      <main class={old ? 'old' : ''}>
        <Headline status={status} />
        <Incidents incidents={view.incidents} open={status?.incidents.open ?? {}} now={now} />
        <AttemptsChart
          series={view.series}
          choice={view.choice}
          policies={(status?.attempts.by_policy ?? []).map(({ policy }) => policy)}
          onChoose={choose}
        />
        <TopMachines machines={view.machines} now={now} />
        <EndingExemptions ending={view.ending} now={now} />
        <LatestChanges changes={view.changes} now={now} />
      </main>
    </>
  )
}

/** Milliseconds since the epoch, second by second. */
function useClock(): number {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000)
    return () => clearInterval(timer)
  }, [])
  return now
}

const live = new Live(readChoice(location.search))
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) live.refreshAll()
})
render(<Dashboard live={live} />, document.body)

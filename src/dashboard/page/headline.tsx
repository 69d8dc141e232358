/** Whether all is well, for whoever walks by. */
import type { Status } from './answers.ts'
import { type Fact, healthOf } from './health.ts'

export function Headline({ status }: { status: Status | null }) {
  const health = status === null ? null : healthOf(status)
  return (
    <section class="health" data-level={health?.level ?? 'unknown'} aria-labelledby="headline">
      <div role="status">
        <h1 id="headline">{health?.headline ?? 'Looking …'}</h1>
      </div>
      <dl class="facts">
        {health?.facts.map((fact) => (
          <FactTile key={fact.label} {...fact} />
        ))}
      </dl>
      {health !== null && health.warnings.length > 0 && (
        <ul class="warnings" aria-label="Warnings">
          {health.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
    </section>
  )
}

function FactTile({ label, value, detail, level }: Fact) {
  return (
    <div class="fact" data-level={level}>
      <dt>{label}</dt>
      <dd class="value">{value}</dd>
      <dd class="detail">{detail}</dd>
    </div>
  )
}

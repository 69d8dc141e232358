/** A plan as JSON: what the API answers and the command prints. */
import type { Plan } from './plan.ts'

export type PlanBody = ReturnType<typeof planBody>

export function planBody({ documents, verdicts, rules, traffic }: Plan) {
  return {
    documents,
    verdicts: verdicts.changes.map(({ addresses, ...change }) => ({
      ...change,
      // A decimal number as text: IPv6 has more addresses than JSON's numbers hold.
      addresses: String(addresses),
    })),
    /** Destinations whose verdicts were not compared, because there are too many. */
    destinations_omitted: verdicts.omitted,
    rules,
    /** Of the machines that tried port 25 in the last 24 hours; null where no gateway was asked. */
    traffic,
  }
}

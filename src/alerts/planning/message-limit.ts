/** So many messages within any span, as it is written: `10/minute`. */
import { parseRate } from '../../policy/formats.ts'

export interface MessageLimit {
  readonly count: number
  /** Milliseconds. */
  readonly per: number
}

const SPANS = { second: 1_000, minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/** null: it is no rate; `none`, say. */
export function parseLimit(text: string): MessageLimit | null {
  const rate = parseRate(text)
  return rate === null ? null : { count: rate.count, per: SPANS[rate.per] }
}

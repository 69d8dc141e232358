/** What the chart shows is in the address of the page, so that a wall can be given its own. Pure. */
import { NAME } from '../../policy/name.ts'
import type { Choice } from './live.ts'

const HOUR = 3_600_000

export const SPANS = [
  { name: '1h', label: '1 hour', milliseconds: HOUR },
  { name: '24h', label: '24 hours', milliseconds: 24 * HOUR },
  { name: '7d', label: '7 days', milliseconds: 7 * 24 * HOUR },
  { name: '30d', label: '30 days', milliseconds: 30 * 24 * HOUR },
] as const

const DEFAULT = SPANS[1]

export function readChoice(search: string): Choice {
  const query = new URLSearchParams(search)
  const policy = query.get('policy')
  const { milliseconds } = SPANS.find(({ name }) => name === query.get('span')) ?? DEFAULT
  return {
    policy: policy !== null && NAME.test(policy) ? policy : null,
    span: milliseconds,
  }
}

/** The opposite of `readChoice`. */
export function writeChoice({ policy, span }: Choice): string {
  const name = SPANS.find(({ milliseconds }) => milliseconds === span)?.name ?? DEFAULT.name
  return `?${new URLSearchParams({ ...(policy === null ? {} : { policy }), span: name })}`
}

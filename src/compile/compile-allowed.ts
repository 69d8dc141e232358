/**
 * What relays and exempt hosts send: let through, counted for each of them, and told, so that one that was broken into is
 * noticed. What clients hand to a relay is let through and counted in all only: it is the relay that sends it on.
 */
import { FAMILIES } from '../policy/prefix.ts'
import { countSources, type MachineLength, withLog } from './compile-policies.ts'
import type { Context } from './context.ts'
import type { Chain, Limit } from './ruleset.ts'

/** Connections of one host that are told: enough to see how many servers it speaks to. All of them are counted. */
const LOG_LIMIT: Limit = { perSecond: 20, burst: 500 }
/** Of all such hosts. A busy relay must not use up what blocked attempts are told by, which has a limit of its own. */
const OVERALL_LIMIT: Limit = { perSecond: 2_000, burst: 4_000 }

/** One sender is an IPv4 address or this much of an IPv6 address: no policy says how much, as none need govern it. */
const SENDERS: readonly MachineLength[] = FAMILIES.map((family) => ({
  family,
  length: family === 4 ? 32 : 64,
}))

/** The chains that let through. A connection's first packet visits the one before them, and comes back. */
export function allowedChains(context: Context): Chain[] {
  const { totals, options, learn } = context
  const relay = totals.id({ of: 'allowed', because: 'relay' })
  const sent = (because: 'relay' | 'exemption'): Chain[] =>
    withLog(
      {
        name: `sent-${because}`,
        base: null,
        rules: [
          { rule: 'count', id: totals.id({ of: 'allowed', because }) },
          ...countSources('senders', SENDERS, learn),
        ],
      },
      'muted-senders',
      SENDERS,
      {
        limit: LOG_LIMIT,
        overall: OVERALL_LIMIT,
        countedAs: totals.id({ of: 'logged-allowed' }),
        prefix: `allow:${because}`,
        group: options.nflogGroup,
      },
      context,
    )
  return [
    ...sent('relay'),
    ...sent('exemption'),
    passing('relayed', 'sent-relay'),
    passing('exempted', 'sent-exemption'),
    {
      name: 'submitted',
      base: null,
      rules: [
        { rule: 'count-first', id: relay },
        { rule: 'verdict', verdict: 'accept' },
      ],
    },
  ]
}

function passing(name: string, first: string): Chain {
  return {
    name,
    base: null,
    rules: [
      { rule: 'first', chain: first },
      { rule: 'verdict', verdict: 'accept' },
    ],
  }
}

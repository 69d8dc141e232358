/** Exemptions: who may send although governed, to where, how much, and until when. */
import type { Exemption } from '../policy/model.ts'
import { FAMILIES } from '../policy/prefix.ts'
import type { Context } from './context.ts'
import { LookupTables } from './lookup-tables.ts'
import type { Chain, LookupTable, Rule } from './ruleset.ts'

const SECONDS = { second: 1, minute: 60, hour: 3_600, day: 86_400 }

/**
 * Exemptions without end or rate are plain sets. The others are maps to chains that look at the clock or the rate
 * and come back when the exemption does not hold (any more), so that the next look-up decides.
 */
export function compileExemptions(exemptions: readonly Exemption[], context: Context) {
  const always = new LookupTables('exempt')
  const limited = new LookupTables('rated', 'jump')
  const ending = new EndingExemptions('until')
  const chains: Chain[] = []
  for (const exemption of exemptions) {
    const { sources, destinations, rate, expires, name } = exemption
    if (rate !== null) chains.push(ratedChain(exemption, context))
    if (rate !== null) limited.add(sources, destinations, `rated-${name}`)
    else if (expires === null) always.add(sources, destinations)
    else ending.add(exemption, expires)
  }
  const { tables, times } = ending.finish()
  chains.push(...times.map((time) => untilChain('until', time, 'exempted')))
  return { always: always.finish(), sometimes: [...tables, ...limited.finish()], chains }
}

/** Where several exemptions cover the same pair, the latest end counts. */
export class EndingExemptions {
  readonly #name: string
  readonly #ends: { exemption: Exemption; time: number }[] = []

  /** The name of the tables, and of the chain for each end: `until`, `until-TIME`. */
  constructor(name: string) {
    this.#name = name
  }

  /** `expires` is in milliseconds since the epoch. */
  add(exemption: Exemption, expires: number): void {
    this.#ends.push({ exemption, time: Math.floor(expires / 1000) })
  }

  finish(): { tables: LookupTable[]; times: number[] } {
    const tables = new LookupTables(this.#name, 'jump')
    // The later one stands in a map, so the latest end comes last.
    this.#ends.sort((a, b) => a.time - b.time)
    for (const { exemption, time } of this.#ends) {
      tables.add(exemption.sources, exemption.destinations, `${this.#name}-${time}`)
    }
    return { tables: tables.finish(), times: [...new Set(this.#ends.map(({ time }) => time))] }
  }
}

/** Goes to the target until the time (seconds since the epoch), and comes back from then on. */
export function untilChain(name: string, time: number, target: string): Chain {
  return {
    name: `${name}-${time}`,
    base: null,
    rules: [
      { rule: 'until', time },
      { rule: 'goto', chain: target },
    ],
  }
}

function ratedChain({ name, rate, expires }: Exemption, { learn }: Context): Chain {
  const rules: Rule[] = expires === null ? [] : [{ rule: 'until', time: Math.floor(expires / 1000) }]
  rules.push({ rule: 'not-first', chain: 'exempted' })
  if (rate !== null) {
    for (const family of FAMILIES) {
      // The kernel keeps the rate with which it learned a source, so that another rate needs a set of its own.
      const set = learn(
        `rate${family}-${name}-${rate.count}-${rate.per}`,
        family,
        'limit',
        // Forgotten no sooner than a full bucket would have been earned anyway.
        Math.max(SECONDS[rate.per], 60),
      )
      rules.push({ rule: 'below-rate', set, family, rate, chain: 'exempted' })
    }
  }
  return { name: `rated-${name}`, base: null, rules }
}

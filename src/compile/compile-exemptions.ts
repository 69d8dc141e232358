/** Exemptions: who may send although governed, to where, how much, and until when. */
import type { Exemption } from '../policy/model.ts'
import type { Prefix } from '../policy/prefix.ts'
import { type Context, FAMILIES } from './context.ts'
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
    for (const source of sources) {
      for (const destination of destinations ?? [null]) {
        if (rate !== null) limited.add(source, destination, `rated-${name}`)
        else if (expires === null) always.add(source, destination)
        else ending.add(source, destination, Math.floor(expires / 1000))
      }
    }
  }
  const { tables, times } = ending.finish()
  chains.push(...times.map((time) => untilChain('until', time, 'exempted')))
  return { always: always.finish(), sometimes: [...tables, ...limited.finish()], chains }
}

/** Where several exemptions cover the same pair, the latest end counts. */
export class EndingExemptions {
  readonly #name: string
  readonly #ends = new Map<string, { source: Prefix; destination: Prefix | null; time: number }>()

  /** The name of the tables, and of the chain for each end: `until`, `until-TIME`. */
  constructor(name: string) {
    this.#name = name
  }

  add(source: Prefix, destination: Prefix | null, time: number): void {
    // Both families: 0.0.0.0/1 and ::/1 have the same number and length.
    const pair = [source, destination].map((one) => `${one?.family}/${one?.address}/${one?.length}`).join(' ')
    const known = this.#ends.get(pair)
    if (known === undefined || known.time < time) this.#ends.set(pair, { source, destination, time })
  }

  finish(): { tables: LookupTable[]; times: number[] } {
    const tables = new LookupTables(this.#name, 'jump')
    const times = new Set<number>()
    for (const { source, destination, time } of this.#ends.values()) {
      tables.add(source, destination, `${this.#name}-${time}`)
      times.add(time)
    }
    return { tables: tables.finish(), times: [...times].sort((a, b) => a - b) }
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

/**
 * Where a ruleset sends connections: the chains of `compile-diversion.ts`, followed as the kernel follows them.
 *
 * The reference verdict would say the same of a model, but walks every prefix for each answer, and who only has the
 * ruleset, as all of `kernel/`, has no model. The two are held against each other by a property test.
 */
import { joinKey, lookUp } from '../compile/lookup-tables.ts'
import type { LookupTable, Ruleset, TablePart } from '../compile/ruleset.ts'
import { type Prefix, truncate } from '../policy/prefix.ts'

export interface Redirection {
  /**
   * The address that a new connection between two single addresses is sent to at a time (milliseconds since the
   * epoch); null when it goes where it wants. What conntrack cannot tell counts as the common case: it leaves by an
   * outside interface, and no relay's user made it.
   */
  target(source: Prefix, destination: Prefix, now: number): Prefix | null
}

/** How a chain ends: with a new destination, with leaving the old one, or by going back to where it was called. */
type End = Prefix | 'left-alone' | 'back'

/** null when the ruleset redirects nothing. */
export function redirectionOf({ chains, tables }: Ruleset): Redirection | null {
  const base = chains.find((chain) => chain.base?.type === 'nat')
  const entry = base?.rules.find((rule) => rule.rule === 'port-25')
  if (entry === undefined) return null
  const chainsByName = new Map(chains.map((chain) => [chain.name, chain]))
  const tablesByName = new Map(tables.map((table) => [table.name, table]))

  const walk = (name: string, source: Prefix, destination: Prefix, now: number): End => {
    const into = (chain: string) => walk(chain, source, destination, now)
    for (const rule of chainsByName.get(name)?.rules ?? []) {
      switch (rule.rule) {
        case 'send-to':
          if (rule.to.family === source.family) return rule.to
          break
        case 'verdict':
          return 'left-alone'
        case 'until':
          if (now >= rule.time * 1000) return 'back'
          break
        case 'goto':
          return into(rule.chain)
        case 'in-set':
          if (partWith(tablesByName.get(rule.table), source, destination) !== null) return into(rule.chain)
          break
        case 'by-map': {
          const table = tablesByName.get(rule.table)
          const target = partWith(table, source, destination)?.target ?? null
          if (target === null) break
          const end = into(target)
          if (table?.via === 'goto' || end !== 'back') return end
          break
        }
      }
    }
    return 'back'
  }
  return {
    target(source, destination, now) {
      const end = walk(entry.chain, source, destination, now)
      return typeof end === 'string' ? null : end
    },
  }
}

/** Whether some policy of the ruleset governs a source. */
export function isGoverned({ tables }: Ruleset, source: Prefix): boolean {
  return tables.some((table) => /^policy[46]-/.test(table.name) && partWith(table, source, source) !== null)
}

/** The part of the table that holds what it looks at of the two addresses. */
function partWith(table: LookupTable | undefined, source: Prefix, destination: Prefix): TablePart | null {
  if (table === undefined || table.key.family !== source.family) return null
  const { key } = table
  const from = key.source === null ? null : truncate(source, key.source).address
  const to = key.destination === null ? null : truncate(destination, key.destination).address
  return lookUp(table, from !== null && to !== null ? joinKey(key.family, from, to) : (from ?? to ?? 0))
}

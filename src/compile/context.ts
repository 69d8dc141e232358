/** What the parts of the compiler share while one ruleset is made. */
import type { Model } from '../policy/model.ts'
import type { Family } from '../policy/prefix.ts'
import type { CompileOptions } from './options.ts'
import type { LearnedSet, LookupTable, Rule } from './ruleset.ts'
import { Totals } from './totals.ts'

export interface Context {
  readonly options: CompileOptions
  readonly totals: Totals
  /** Sets that rules fill, by name; asked for twice, it is one set. */
  readonly learned: ReadonlyMap<string, LearnedSet>
  /** Declares such a set and gives back its name. The timeout is in seconds. */
  readonly learn: (name: string, family: Family, holds: LearnedSet['holds'], timeout: number) => string
}

export function newContext(options: CompileOptions): Context {
  const learned = new Map<string, LearnedSet>()
  return {
    options,
    totals: new Totals(),
    learned,
    learn(name, family, holds, timeout) {
      learned.set(name, { name, family, holds, size: options.trackedSources, timeout })
      return name
    },
  }
}

/** What is in the plain set goes to the chain. */
export function inSet({ name, key }: LookupTable, chain: string): Rule {
  return { rule: 'in-set', table: name, key, chain }
}

/** What is in the map goes where the map says. */
export function byMap({ name, key }: LookupTable): Rule {
  return { rule: 'by-map', table: name, key }
}

/** Ids of the local users whose processes are a relay. */
export function relayUids({ relays }: Model, { uids }: CompileOptions): number[] {
  const senders = relays.flatMap(({ users }) => users.flatMap((user) => uids.get(user) ?? []))
  return [...new Set(senders)].sort((a, b) => a - b)
}

/** What goes elsewhere than outside is left alone; nothing to ask where everything is outside. */
export function outboundOnly(
  rule: 'not-leaving-by' | 'not-routed-by',
  { outsideInterfaces }: CompileOptions,
): Rule[] {
  return outsideInterfaces.length > 0 ? [{ rule, interfaces: outsideInterfaces }] : []
}

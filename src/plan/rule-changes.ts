/** What a change means for the kernel: elements and rules that come and go. */
import { difference } from '../compile/delta.ts'
import { countElements } from '../compile/lookup-tables.ts'
import type { Chain, LookupTable, Ruleset } from '../compile/ruleset.ts'

export interface RuleChanges {
  /** The whole table is replaced when nft cannot change in place what differs. */
  readonly how: 'unchanged' | 'delta' | 'replacement'
  readonly elements: { readonly added: number; readonly removed: number }
  readonly chains: {
    readonly added: readonly string[]
    readonly changed: readonly string[]
    readonly removed: readonly string[]
  }
  /** Rules of all chains that come or are written anew, and of those that go or are written anew. */
  readonly rules: { readonly added: number; readonly removed: number }
}

export function ruleChanges(before: Ruleset, after: Ruleset): RuleChanges {
  const delta = difference(before, after)
  const names = (chains: readonly Chain[]) => chains.map(({ name }) => name)
  const rules = (chains: readonly Chain[]) => chains.reduce((sum, chain) => sum + chain.rules.length, 0)
  const keys = (tables: readonly LookupTable[]) =>
    tables.reduce((sum, table) => sum + countElements(table), 0)
  if (delta === null) {
    return {
      how: 'replacement',
      elements: { added: keys(after.tables), removed: keys(before.tables) },
      chains: { added: names(after.chains), changed: [], removed: names(before.chains) },
      rules: { added: rules(after.chains), removed: rules(before.chains) },
    }
  }
  const { tables, addedTables, removedTables, addedChains, changedChains, removedChains } = delta
  const old = new Map(before.chains.map((chain) => [chain.name, chain]))
  const replaced = changedChains.flatMap(({ name }) => old.get(name) ?? [])
  const changes = {
    elements: {
      added: keys(addedTables) + tables.reduce((sum, { added }) => sum + added.length, 0),
      removed: keys(removedTables) + tables.reduce((sum, { removed }) => sum + removed.length, 0),
    },
    chains: { added: names(addedChains), changed: names(changedChains), removed: names(removedChains) },
    rules: {
      added: rules([...addedChains, ...changedChains]),
      removed: rules([...removedChains, ...replaced]),
    },
  }
  const { elements, rules: ruled } = changes
  const nothing = elements.added + elements.removed + ruled.added + ruled.removed === 0
  return { how: nothing ? 'unchanged' : 'delta', ...changes }
}

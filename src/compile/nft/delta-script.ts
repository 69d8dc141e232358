/** What turns the ruleset in the kernel into another, and no more than that. */
import { type AppliedLog, droppedBetween, nextOf } from '../applied-log.ts'
import { type Delta, deletes, type Entry } from '../delta.ts'
import { flatten } from '../lookup-tables.ts'
import type { Chain, LookupTable } from '../ruleset.ts'
import { hook, learnedProperties, tableType } from './declarations.ts'
import { type Columns, elementCommands } from './elements.ts'
import { APPLIED_MAP, ERA, eraSet, mark, marks, TABLE, TOTALS_SET } from './names.ts'
import { ruleText } from './rule.ts'

/** A delta as text, and what the table's log becomes by it. */
export interface DeltaScript {
  readonly text: string
  readonly log: AppliedLog
}

/**
 * Turns one ruleset in the kernel into another, whose digest is given. The transaction fails as a whole when the kernel
 * holds something else than what the log says.
 */
export function renderDelta(delta: Delta, before: AppliedLog, digest: string): DeltaScript {
  const reset = [...delta.changedChains, ...delta.removedChains]
  const filled = [...delta.addedChains, ...delta.changedChains]
  const log = nextOf(before, deletes(delta))
  const commands = [
    ...continueLog(before, log, digest),
    ...delta.addedTables.map((table) => declaration(table)),
    ...delta.addedLearned.map(
      (set) => `add set ${TABLE} ${set.name} { ${learnedProperties(set).join('; ')}; }`,
    ),
    ...delta.addedTotals.map(({ id }) => `add element ${TABLE} ${TOTALS_SET} { ${mark(id)} }`),
    ...delta.addedChains.map(addition),
    ...reset.map(flush),
    ...filled.flatMap(additionOfRules),
    ...delta.tables.flatMap(({ table, removed }) => elementCommands('delete', table, columns(removed))),
    ...delta.tables.flatMap(({ table, added }) => elementCommands('add', table, columns(added))),
    ...delta.addedTables.flatMap((table) => elementCommands('add', table, flatten(table))),
    ...delta.removedTables.map(({ name, isMap }) => `delete ${isMap ? 'map' : 'set'} ${TABLE} ${name}`),
    ...delta.removedLearned.map(({ name }) => `delete set ${TABLE} ${name}`),
    ...delta.removedTotals.map(({ id }) => `delete element ${TABLE} ${TOTALS_SET} { ${mark(id)} }`),
    ...delta.removedChains.map(({ name }) => `delete chain ${TABLE} ${name}`),
  ]
  return { text: text(commands), log }
}

/** Puts the chains and their rules back to what they should be, whatever is in them; sets and maps stay untouched. */
export function renderChains(chains: readonly Chain[]): string {
  return text([...chains.map(addition), ...chains.map(flush), ...chains.flatMap(additionOfRules)])
}

function continueLog(before: AppliedLog, after: AppliedLog, digest: string): string[] {
  const dropped = droppedBetween(before, after)
  return [
    // Whatever is added to it: it must be there.
    `add element ${TABLE} ${eraSet(before.era)} { ${mark(ERA)} }`,
    `create element ${TABLE} ${APPLIED_MAP} { ${mark(after.newest)} : ${marks(digest)} }`,
    ...(dropped.length === 0
      ? []
      : [`delete element ${TABLE} ${APPLIED_MAP} { ${dropped.map(mark).join(', ')} }`]),
  ]
}

function addition({ name, base }: Chain): string {
  return `add chain ${TABLE} ${name}${base === null ? '' : ` { ${hook(base)}; }`}`
}

function additionOfRules({ name, rules }: Chain): string[] {
  return rules.map((rule) => `add rule ${TABLE} ${name} ${ruleText(rule)}`)
}

function flush({ name }: Chain): string {
  return `flush chain ${TABLE} ${name}`
}

function declaration(table: LookupTable): string {
  return `add ${table.isMap ? 'map' : 'set'} ${TABLE} ${table.name} { ${tableType(table)}; }`
}

function columns(entries: readonly Entry[]): Columns {
  return { keys: entries.map(({ key }) => key), targets: entries.map(({ target }) => target) }
}

function text(commands: readonly string[]): string {
  return commands.map((command) => `${command}\n`).join('')
}

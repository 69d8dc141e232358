/** The table as a block, with all but the elements of its lookup tables. */
import type { Chain, LearnedSet, LookupTable, Ruleset, Total } from '../ruleset.ts'
import { hook, learnedProperties, tableType, typeOf } from './declarations.ts'
import { APPLIED_MAP, mark, TABLE, TOTALS_SET } from './names.ts'
import { ruleText } from './rule.ts'

/** The table with all but its elements; the room in it makes no difference to what it is. */
export function frame(ruleset: Ruleset, sizes: ReadonlyMap<string, number | null> = new Map()): string {
  const body = [
    ...ruleset.tables.map((table) => tableBlock(table, sizes.get(table.name) ?? null)),
    ...ruleset.learned.map(learnedBlock),
    totalsBlock(ruleset.totals),
    appliedBlock(),
    ...chainsFirstToLast(ruleset.chains).map(chainBlock),
  ].join('\n')
  return `table ${TABLE} {\n${body}}\n`
}

function tableBlock(table: LookupTable, size: number | null): string {
  const keyword = table.isMap ? 'map' : 'set'
  const room = size === null ? [] : [`size ${size}`]
  return block(`${keyword} ${table.name}`, [tableType(table), ...room])
}

function learnedBlock(set: LearnedSet): string {
  return block(`set ${set.name}`, learnedProperties(set))
}

function totalsBlock(totals: readonly Total[]): string {
  const elements =
    totals.length === 0 ? [] : [`elements = { ${totals.map(({ id }) => mark(id)).join(', ')} }`]
  return block(`set ${TOTALS_SET}`, [typeOf('meta mark'), 'counter', ...elements])
}

/** Which ruleset this is, for whoever reads the kernel later: see `applied-log.ts`. */
function appliedBlock(): string {
  return block(`map ${APPLIED_MAP}`, [`${typeOf('meta mark')} : ${Array(4).fill('meta mark').join(' . ')}`])
}

function chainBlock({ name, base, rules }: Chain): string {
  const head = base === null ? [] : [hook(base)]
  return block(`chain ${name}`, [...head, ...rules.map(ruleText)])
}

/** nft takes the chains of one block in any order but one: a rule's target must have been named above it. */
function chainsFirstToLast(chains: readonly Chain[]): readonly Chain[] {
  const byName = new Map(chains.map((chain) => [chain.name, chain]))
  const done = new Set<Chain>()
  const visit = (chain: Chain) => {
    if (done.has(chain)) return
    done.add(chain)
    for (const rule of chain.rules) {
      const target = 'chain' in rule ? byName.get(rule.chain) : undefined
      if (target !== undefined) visit(target)
    }
    sorted.push(chain)
  }
  const sorted: Chain[] = []
  for (const chain of chains) visit(chain)
  return sorted
}

function block(head: string, lines: readonly string[]): string {
  return `\t${head} {\n${lines.map((text) => `\t\t${text}\n`).join('')}\t}\n`
}

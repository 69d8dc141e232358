/** The whole ruleset as a script that replaces what there is. */
import { flatten } from '../lookup-tables.ts'
import type { Ruleset } from '../ruleset.ts'
import { typeOf } from './declarations.ts'
import { digestOf } from './digest.ts'
import { elementCommands } from './elements.ts'
import { frame } from './frame.ts'
import { APPLIED_MAP, ERA, eraSet, mark, marks, TABLE } from './names.ts'

/** A whole ruleset, and the digest by which it is recognised in the kernel. */
export interface Script {
  readonly text: string
  /** 128 bits in hexadecimal. */
  readonly digest: string
}

/**
 * Replaces the table as a whole, in one transaction. The first line makes sure that there is something to delete:
 * `destroy` would say the same, but nft 1.0.6 does not know it. The era (128 bits in hexadecimal) sets this writing of
 * the table apart from others of the same ruleset, where they must be told apart.
 */
export function renderReplacement(ruleset: Ruleset, era?: string): Script {
  const digest = digestOf(ruleset)
  const flat = ruleset.tables.map((table) => ({ table, entries: flatten(table) }))
  const sizes = new Map(flat.map(({ table, entries }) => [table.name, sizeFor(entries.keys.length)]))
  const parts = [`table ${TABLE}\ndelete table ${TABLE}\n`, frame(ruleset, sizes)]
  for (const { table, entries } of flat) {
    for (const command of elementCommands('add', table, entries)) parts.push(`${command}\n`)
  }
  parts.push(beginLog(era ?? digest, digest))
  // Put together once: of a million elements, each copy has 15 MB.
  return { text: parts.join(''), digest }
}

/** Elements from which on it pays to tell nft how many there will be. */
const MANY = 10_000

/**
 * How many elements to make room for: with a size the kernel takes a plain hash table and never grows it, so that a
 * million elements are loaded in half the time and found sooner. At least as many again may be added; when more are,
 * the kernel refuses, and the table is written anew with more room. null: it may see for itself.
 */
function sizeFor(elements: number): number | null {
  return elements < MANY ? null : 2 ** Math.ceil(Math.log2(elements * 2))
}

function beginLog(era: string, digest: string): string {
  return `add set ${TABLE} ${eraSet(era)} { ${typeOf('meta mark')}; }
add element ${TABLE} ${APPLIED_MAP} { ${mark(ERA)} : ${marks(era)}, ${mark(1)} : ${marks(digest)} }
`
}

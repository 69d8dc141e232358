/**
 * What the kernel has learned and counted by itself, as text that puts it into a table made anew: where only a
 * replacement will do, counters and tracked sources outlive it. What a rate has left is the kernel's secret; a source
 * with a rate starts with a full one.
 */
import { mark, TABLE, TOTALS_SET } from './nft/names.ts'
import type { Ruleset } from './ruleset.ts'

export interface Counter {
  readonly packets: number
  readonly bytes: number
}

export interface LearnedElement extends Counter {
  /** An address as nft prints it. */
  readonly address: string
  /** Seconds until it is forgotten. */
  readonly expires: number
}

export interface Remembered {
  /** By the id of the total. */
  readonly totals: ReadonlyMap<number, Counter>
  /** By the name of the set; only sets of counters. */
  readonly learned: ReadonlyMap<string, readonly LearnedElement[]>
}

/** Elements in one command. */
const BATCH = 5_000

/** To be appended to the replacement by the same ruleset: what it does not know (any more) is forgotten. */
export function renderRemembered({ totals, learned }: Ruleset, remembered: Remembered): string {
  const lines: string[] = []
  const counters = totals.flatMap(({ id }) => {
    const counter = remembered.totals.get(id)
    return counter === undefined || counter.packets === 0 ? [] : [{ id, counter }]
  })
  if (counters.length > 0) {
    // The element is there already, with a counter at zero that cannot be changed: it must go and come again.
    const ids = counters.map(({ id }) => mark(id))
    const counted = counters.map(({ id, counter }) => `${mark(id)} ${counterText(counter)}`)
    lines.push(`delete element ${TABLE} ${TOTALS_SET} { ${ids.join(', ')} }`)
    lines.push(`add element ${TABLE} ${TOTALS_SET} { ${counted.join(', ')} }`)
  }
  for (const { name, holds, size, timeout } of learned) {
    if (holds !== 'counter') continue
    const elements = remembered.learned.get(name) ?? []
    for (let from = 0; from < Math.min(elements.length, size); from += BATCH) {
      const batch = elements.slice(from, Math.min(from + BATCH, size)).map((element) => {
        const left = Math.max(1, Math.min(Math.floor(element.expires), timeout))
        return `${element.address} ${counterText(element)} timeout ${timeout}s expires ${left}s`
      })
      lines.push(`add element ${TABLE} ${name} { ${batch.join(', ')} }`)
    }
  }
  return lines.map((line) => `${line}\n`).join('')
}

/** Makes a learned set forget machines. */
export function renderForgetting(set: string, addresses: readonly string[]): string {
  return `delete element ${TABLE} ${set} { ${addresses.join(', ')} }\n`
}

function counterText({ packets, bytes }: Counter): string {
  return `counter packets ${packets} bytes ${bytes}`
}

/** Ids for counters that stay the same from one ruleset to the next, so that counts outlive every change. */
import { createHash } from 'node:crypto'
import type { Total, TotalOf } from './ruleset.ts'

/** Gives out ids: 32 bits of a digest of what is counted, so that no other document's coming or going moves them. */
export class Totals {
  readonly #byId = new Map<number, TotalOf>()

  id(what: TotalOf): number {
    const name = nameOf(what)
    let id = createHash('sha256').update(name).digest().readUInt32BE(0)
    // Two names in four milliards may meet; the second then moves on by one.
    for (
      let known = this.#byId.get(id);
      known !== undefined && nameOf(known) !== name;
      known = this.#byId.get(id)
    ) {
      id = (id + 1) >>> 0
    }
    this.#byId.set(id, what)
    return id
  }

  finish(): Total[] {
    return [...this.#byId].map(([id, what]) => ({ id, what })).sort((a, b) => a.id - b.id)
  }
}

function nameOf(what: TotalOf): string {
  switch (what.of) {
    case 'attempts':
      return `attempts ${what.policy} ${what.verdict}`
    case 'allowed':
      return `allowed ${what.because}`
    case 'logged':
    case 'logged-allowed':
      return what.of
    default:
      return what satisfies never
  }
}

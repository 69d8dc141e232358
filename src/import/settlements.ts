/**
 * What the old rules decide in each context: once by themselves, and once with what they have in common with the other
 * interfaces. Both are worked out when they are asked for, and remembered.
 */
import type { Family } from '../policy/prefix.ts'
import { notForMail, type Settled, settle, tellAll } from './doubts.ts'
import { interpret } from './interpret.ts'
import { type Budget, intersectRegions, type Region, regionOf, subtractRegions } from './region.ts'
import type { Remarks } from './remark.ts'
import type { Context, Firewall } from './rule.ts'
import type { Units } from './units.ts'

export type Settlement = Readonly<Record<Family, Settled>>

export class Settlements {
  readonly #firewall: Firewall
  readonly #units: Units
  readonly #interfaces: readonly string[]
  readonly #budget: Budget
  readonly #remarks: Remarks
  readonly #known = new Map<string, Settlement>()
  readonly #kept = new Map<string, Settlement>()

  constructor(
    firewall: Firewall,
    units: Units,
    interfaces: readonly string[],
    budget: Budget,
    remarks: Remarks,
  ) {
    this.#firewall = firewall
    this.#units = units
    this.#interfaces = interfaces
    this.#budget = budget
    this.#remarks = remarks
  }

  settled(context: Context): Settlement {
    const key = keyOf(context)
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const of = (family: Family) =>
      settle(interpret(this.#firewall, this.#units, context, family, this.#budget), this.#budget)
    const settlement = { 4: of(4), 6: of(6) }
    this.#known.set(key, settlement)
    return settlement
  }

  /**
   * A general block becomes a policy only where it holds whatever interface a packet leaves by: else it is about the
   * network, not about mail.
   */
  adopted(context: Context): Settlement {
    if (this.#interfaces.length === 0) return this.settled(context)
    const key = keyOf(context)
    const known = this.#kept.get(key)
    if (known !== undefined) return known
    const all = [null, ...this.#interfaces].map((leavesBy) => this.settled({ ...context, leavesBy }))
    const of = (family: Family): Settled => {
      const settled = this.settled(context)[family]
      const general = settled.blocked.filter(({ specific }) => !specific)
      if (general.length === 0) return settled
      let common: Region = regionOf(general, this.#budget)
      for (const other of all) {
        const there = regionOf(
          other[family].blocked.filter(({ specific }) => !specific),
          this.#budget,
        )
        common = intersectRegions(common, there, this.#budget)
      }
      let { ignored } = settled
      const allowed = [...settled.allowed]
      const blocked = settled.blocked.flatMap((block) => {
        if (block.specific) return [block]
        const region = intersectRegions(block.region, common, this.#budget)
        const left = subtractRegions(block.region, common, this.#budget)
        ignored = [...ignored, ...left]
        if (left.length > 0) {
          tellAll(this.#remarks, [notForMail(block.unit.rule)])
          // Left to the old rules, so none of the documents may block it where they do not.
          allowed.push({ ...block, outcome: 'allow', region: left })
        }
        return region.length > 0 ? [{ ...block, region }] : []
      })
      return { ...settled, blocked, allowed, ignored }
    }
    const settlement = { 4: of(4), 6: of(6) }
    this.#kept.set(key, settlement)
    return settlement
  }
}

function keyOf({ hook, leavesBy, user }: Context): string {
  return JSON.stringify([hook, leavesBy, user])
}

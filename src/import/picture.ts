/**
 * Which hooks, interfaces and users the old rules know, and what they mean together: egress25 has one set of policies
 * for all of them, and says in the gateway's configuration where it holds.
 */
import { FAMILIES, type Family } from '../policy/prefix.ts'
import { notForMail, tellAll } from './doubts.ts'
import type { Decided } from './interpret.ts'
import { namesInRules } from './names-in-rules.ts'
import { complement, type Ranges, type Space } from './ranges.ts'
import {
  type Budget,
  EMPTY,
  intersectRegions,
  joinRegions,
  type Region,
  regionOf,
  subtractRegions,
} from './region.ts'
import type { Remarks } from './remark.ts'
import type { Context, Firewall } from './rule.ts'
import { Settlements } from './settlements.ts'
import type { Units } from './units.ts'

export interface FamilyPicture {
  readonly family: Family
  readonly blocked: readonly Decided[]
  readonly allowed: readonly Decided[]
  readonly undecided: Region
}

export interface Picture {
  readonly hooks: readonly Context['hook'][]
  readonly outside: readonly string[]
  /** Under all of these the documents must mean what the old rules mean. */
  readonly contexts: readonly Context[]
  /** What general rules block under one of them, which is none of egress25's business. */
  ignored(context: Context, family: Family): Region
  readonly families: readonly FamilyPicture[]
  /** May send from the gateway itself, where others may not. */
  readonly users: readonly string[]
}

const MOST_INTERFACES = 16
const MOST_USERS = 64

/** @param local the gateway's own addresses; null: not known */
export function drawPicture(
  firewall: Firewall,
  units: Units,
  local: Space | null,
  budget: Budget,
  remarks: Remarks,
): Picture {
  return new Drawing(firewall, units, local, budget, remarks).draw()
}

class Drawing {
  readonly #firewall: Firewall
  readonly #local: Space | null
  readonly #budget: Budget
  readonly #remarks: Remarks
  readonly #settlements: Settlements
  readonly #interfaces: readonly string[]

  constructor(firewall: Firewall, units: Units, local: Space | null, budget: Budget, remarks: Remarks) {
    this.#firewall = firewall
    this.#local = local
    this.#budget = budget
    this.#remarks = remarks
    this.#interfaces = namesInRules(firewall, 'leaves-by', MOST_INTERFACES, remarks)
    this.#settlements = new Settlements(firewall, units, this.#interfaces, budget, remarks)
  }

  draw(): Picture {
    const interfaces = this.#interfaces
    const forward = this.#hook('forward', interfaces)
    const output = this.#hook('output', interfaces)
    const blocking = [forward, output].filter(({ blocks }) => blocks)
    const { chosen, hooks, families } = this.#choose(forward, output, blocking)
    // Also of circumstances that came to nothing: a block that could not be read may be why.
    for (const hook of ['forward', 'output'] as const) {
      for (const leavesBy of [null, ...interfaces]) {
        const settlement = this.#settlements.settled({ hook, leavesBy, user: null })
        for (const family of FAMILIES) tellAll(this.#remarks, settlement[family].remarks)
      }
    }
    if (hooks.length === 0) {
      this.#remarks.add('warning', 'nothing-blocked', '', 'nothing here blocks what goes out to port 25')
    }
    const outside = [...new Set(chosen.flatMap((one) => one.outside))]
    this.#tellSettings(hooks, outside)
    const contexts = chosen.flatMap((one) => one.contexts)
    const users = this.#users(output, hooks)
    return {
      hooks,
      outside,
      contexts: [...contexts, ...users.contexts],
      ignored: (context, family) => this.#settlements.adopted(context)[family].ignored,
      families,
      users: users.names,
    }
  }

  /** What a hook means as a whole: blocked by any of its outside interfaces is blocked. */
  #hook(hook: Context['hook'], interfaces: readonly string[]): HookView {
    const at = (leavesBy: string | null): Context => ({ hook, leavesBy, user: null })
    const elsewhere = at(null)
    const more = interfaces.filter((name) => this.#differ(elsewhere, at(name)))
    if (more.length === 0) return this.#view(hook, [], [elsewhere])
    const general = FAMILIES.flatMap((family) => this.#settlements.adopted(elsewhere)[family].blocked)
    if (general.some(({ specific }) => specific)) {
      return this.#view(hook, [], [elsewhere, ...more.map(at)])
    }
    for (const { unit } of general) tellAll(this.#remarks, [notForMail(unit.rule)])
    return this.#view(hook, more, more.map(at))
  }

  #differ(a: Context, b: Context): boolean {
    return FAMILIES.some(
      (family) =>
        !this.#sameBlocks(
          this.#settlements.adopted(a)[family].blocked,
          this.#settlements.adopted(b)[family].blocked,
        ),
    )
  }

  #view(hook: Context['hook'], outside: readonly string[], contexts: readonly Context[]): HookView {
    const families = FAMILIES.map((family) => this.#merged(contexts, family))
    return { hook, outside, contexts, families, blocks: families.some(({ blocked }) => blocked.length > 0) }
  }

  #merged(contexts: readonly Context[], family: Family): FamilyPicture {
    const blocked: Decided[] = []
    let taken = EMPTY
    let undecided = EMPTY
    for (const context of contexts) {
      const settled = this.#settlements.adopted(context)[family]
      for (const block of settled.blocked) {
        const region = subtractRegions(block.region, taken, this.#budget)
        if (region.length > 0) blocked.push({ ...block, region })
      }
      if (contexts.length > 1) taken = regionOf(blocked, this.#budget)
      undecided = this.#together(undecided, settled.undecided)
    }
    const [first] = contexts
    const allowed = first === undefined ? [] : this.#settlements.adopted(first)[family].allowed
    if (contexts.length === 1) return { family, blocked, allowed, undecided }
    return {
      family,
      blocked,
      allowed: allowed.map((one) => ({
        ...one,
        region: subtractRegions(one.region, taken, this.#budget),
      })),
      undecided: subtractRegions(undecided, taken, this.#budget),
    }
  }

  #together(a: Region, b: Region): Region {
    return joinRegions(a, subtractRegions(b, a, this.#budget), this.#budget)
  }

  #choose(
    forward: HookView,
    output: HookView,
    blocking: readonly HookView[],
  ): { chosen: readonly HookView[]; hooks: readonly Context['hook'][]; families: readonly FamilyPicture[] } {
    const [one, other] = blocking
    if (one === undefined) return { chosen: [forward, output], hooks: [], families: forward.families }
    if (other === undefined) return { chosen: [one], hooks: [one.hook], families: one.families }
    const both = { chosen: blocking, hooks: ['forward', 'output'] as const }
    if (this.#alike(forward, output)) return { ...both, families: forward.families }
    if (this.#local !== null) return { ...both, families: this.#combined(forward, output, this.#local) }
    const named = ({ families }: HookView) =>
      families.some(({ blocked }) => blocked.some(({ specific }) => specific))
    const [taken, left] = !named(forward) && named(output) ? [output, forward] : [forward, output]
    const first = left.families.flatMap(({ blocked }) => blocked)[0]
    const rest = taken === forward ? 'what this machine itself sends' : 'what is forwarded'
    const message =
      `forwarded packets and this machine's own are blocked differently; the documents are for hook ${taken.hook}, ` +
      `and ${rest} is let through now. Say with --local which addresses are this machine's own, and both are translated`
    this.#remarks.add('error', 'two-hooks', first?.unit.rule.where ?? '', message)
    return { chosen: [taken], hooks: [taken.hook], families: taken.families }
  }

  #alike(a: HookView, b: HookView): boolean {
    if (a.outside.join() !== b.outside.join()) return false
    return FAMILIES.every((_, index) => {
      const [one, other] = [a.families[index]!, b.families[index]!]
      return this.#sameBlocks(one.blocked, other.blocked)
    })
  }

  #sameBlocks(a: readonly Decided[], b: readonly Decided[]): boolean {
    return (['drop', 'reject', 'redirect'] as const).every((outcome) => {
      const of = (list: readonly Decided[]) =>
        regionOf(
          list.filter((one) => one.outcome === outcome),
          this.#budget,
        )
      const [one, other] = [of(a), of(b)]
      return (
        subtractRegions(one, other, this.#budget).length === 0 &&
        subtractRegions(other, one, this.#budget).length === 0
      )
    })
  }

  /** What comes from the gateway's own addresses goes by the rules for output, the rest by those for forward. */
  #combined(forward: HookView, output: HookView, local: Space): readonly FamilyPicture[] {
    return FAMILIES.map((family, index) => {
      const own = local[family]
      const others = complement(family, own)
      const [f, o] = [forward.families[index]!, output.families[index]!]
      const only = (list: readonly Decided[], sources: Ranges) =>
        list.flatMap((one) => {
          const region = this.#among(family, one.region, sources)
          return region.length > 0
            ? [{ ...one, region, written: this.#within(one.written, family, sources) }]
            : []
        })
      return {
        family,
        blocked: [...only(f.blocked, others), ...only(o.blocked, own)],
        allowed: [...only(f.allowed, others), ...only(o.allowed, own)],
        undecided: [...this.#among(family, f.undecided, others), ...this.#among(family, o.undecided, own)],
      }
    })
  }

  #among(family: Family, region: Region, sources: Ranges): Region {
    const all = complement(family, [])
    return sources.length === 0
      ? EMPTY
      : intersectRegions(region, [{ source: sources, destination: all }], this.#budget)
  }

  /** Own addresses only narrow what a rule for output speaks of; what is forwarded keeps its own networks. */
  #within(written: Space, family: Family, sources: Ranges): Space {
    const own = this.#local?.[family]
    if (own !== sources) return written
    const inside = intersectRegions(
      [{ source: written[family], destination: sources }],
      [{ source: sources, destination: sources }],
      this.#budget,
    )
    return { ...written, [family]: inside[0]?.source ?? [] }
  }

  /** A user whom nothing blocks, where others are blocked, is a relay; in between there is nothing in egress25. */
  #users(output: HookView, hooks: readonly Context['hook'][]): { names: string[]; contexts: Context[] } {
    const names: string[] = []
    const more: Context[] = []
    const leaving = output.outside.length > 0 ? output.outside : [null, ...this.#interfaces]
    const base = hooks.includes('output')
      ? leaving.map((leavesBy): Context => ({ hook: 'output', leavesBy, user: null }))
      : []
    const everybody = FAMILIES.map((family) => this.#merged(base, family))
    for (const user of namesInRules(this.#firewall, 'user', MOST_USERS, this.#remarks)) {
      this.#tellBlockedUser(user)
      if (base.length === 0) continue
      const own = base.map((context) => ({ ...context, user }))
      const views = FAMILIES.map((family) => this.#merged(own, family))
      const same = views.every(({ blocked }, index) => this.#sameBlocks(blocked, everybody[index]!.blocked))
      more.push(...own)
      if (same) continue
      if (views.every(({ blocked }) => blocked.length === 0)) names.push(user)
      else {
        const message = `the user ${user} may send to some places, and not to others; a relay's users may send to anywhere`
        this.#remarks.add('error', 'not-translated', '', message)
      }
    }
    return { names, contexts: more }
  }

  /** Policies are for everybody on a machine: one user alone cannot be blocked. */
  #tellBlockedUser(user: string): void {
    for (const leavesBy of [null, ...this.#interfaces]) {
      const everybody: Context = { hook: 'output', leavesBy, user: null }
      const own: Context = { ...everybody, user }
      for (const family of FAMILIES) {
        tellAll(this.#remarks, this.#settlements.settled(own)[family].remarks)
        const others = regionOf(this.#settlements.adopted(everybody)[family].blocked, this.#budget)
        for (const { unit, region } of this.#settlements.adopted(own)[family].blocked) {
          if (subtractRegions(region, others, this.#budget).length === 0) continue
          const { where, text } = unit.rule
          const message = `the user ${user} is blocked where others are not, and is let through now: ${text}`
          this.#remarks.add('error', 'not-translated', where, message)
        }
      }
    }
  }

  #tellSettings(hooks: readonly string[], outside: readonly string[]): void {
    if (hooks.length === 1) {
      const message = `only the hook ${hooks[0]} is blocked: write hooks: [${hooks[0]}] under firewall in egress25.yaml`
      this.#remarks.add('warning', 'hooks', '', message)
    }
    const plain = outside.filter((name) => !name.endsWith('*'))
    if (plain.length > 0) {
      const message = `put ${plain.join(', ')} into firewall.outside_interfaces in egress25.yaml: the old rules block only what leaves by it`
      this.#remarks.add('warning', 'outside-interfaces', '', message)
    }
    for (const name of outside.filter((name) => name.endsWith('*'))) {
      const message = `name each interface that ${name} stands for in firewall.outside_interfaces in egress25.yaml`
      this.#remarks.add('error', 'outside-interfaces', '', message)
    }
  }
}

interface HookView {
  readonly hook: Context['hook']
  readonly outside: readonly string[]
  readonly contexts: readonly Context[]
  readonly families: readonly FamilyPicture[]
  readonly blocks: boolean
}

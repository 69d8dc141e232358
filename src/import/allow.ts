/**
 * From what the old rules let through to relays and exemptions.
 *
 * A source that may send to anywhere is an exemption where it lies inside a network that some rule blocks by name, and
 * a relay otherwise: who stands among the customers is a customer. A network larger than a /24 or a /64 is never a
 * relay. Single addresses that governed sources may reach are a relay with clients where they may themselves send to
 * anywhere, and an exemption with destinations otherwise, as networks are.
 */
import { addressBits, FAMILIES, type Family, formatPrefix, type Prefix } from '../policy/prefix.ts'
import type { FamilyGoverned } from './govern.ts'
import type { Decided } from './interpret.ts'
import type { FamilyPicture } from './picture.ts'
import {
  complement,
  equal,
  isEverything,
  NONE,
  prefixesOf,
  type Ranges,
  rangeOf,
  subtract,
  union,
} from './ranges.ts'
import {
  type Budget,
  compact,
  EMPTY,
  intersectRegions,
  joinRegions,
  type Product,
  type Region,
  sourcesOf,
  subtractRegions,
} from './region.ts'
import type { Unit } from './units.ts'

export type As = 'relay' | 'exemption' | 'either'

export interface RelayPlan {
  readonly units: Unit[]
  readonly addresses: Record<Family, Ranges>
  /** Who may submit; null: everyone. */
  readonly clients: Record<Family, Ranges | null>
}

export interface ExemptionPlan {
  readonly unit: Unit
  readonly sources: Record<Family, Ranges>
  /** null: anywhere. */
  readonly destinations: Record<Family, Ranges> | null
}

export interface Allowed {
  readonly relays: readonly RelayPlan[]
  readonly exemptions: readonly ExemptionPlan[]
}

const LONGEST_RELAY: Readonly<Record<Family, number>> = { 4: 24, 6: 64 }

export function allow(
  pictures: readonly FamilyPicture[],
  governed: readonly FamilyGoverned[],
  as: As,
  budget: Budget,
): Allowed {
  const plans = new Plans(as, budget)
  for (const [index, picture] of pictures.entries()) plans.redirects(picture, governed[index]!)
  const orders = pictures.map((picture) => inOrder(picture.allowed))
  const found = pictures.map(
    (picture, index) => new Finder(picture, governed[index]!, orders[index]!, plans, budget),
  )
  for (const finder of found) finder.senders()
  for (const finder of found) finder.rest()
  return { relays: joined(plans.relays), exemptions: plans.exemptions }
}

/** Relays with the same addresses are one: it may be found by what it sends, and by who sends to it. */
function joined(relays: readonly RelayPlan[]): RelayPlan[] {
  const plans = new Map<string, RelayPlan>()
  for (const plan of relays) {
    const key = bothFamilies(plan.addresses).map(formatPrefix).join()
    const same = plans.get(key)
    if (same === undefined) {
      plans.set(key, plan)
      continue
    }
    same.units.push(...plan.units.filter((unit) => !same.units.includes(unit)))
    for (const family of FAMILIES) {
      const [one, other] = [same.clients[family], plan.clients[family]]
      same.clients[family] = one === null || other === null ? null : union(one, other)
    }
  }
  return [...plans.values()]
}

/** Rules made for mail first: where two let the same through, theirs is the document. */
function inOrder(allowed: readonly Decided[]): readonly Decided[] {
  return [...allowed].sort((a, b) => Number(b.specific) - Number(a.specific) || a.order - b.order)
}

class Plans {
  readonly relays: RelayPlan[] = []
  readonly exemptions: ExemptionPlan[] = []
  readonly as: As
  readonly #senders = new Map<Unit, RelayPlan>()
  readonly #submitted = new Map<string, RelayPlan>()
  readonly #exempt = new Map<string, ExemptionPlan>()
  readonly #budget: Budget

  constructor(as: As, budget: Budget) {
    this.as = as
    this.#budget = budget
  }

  /** A redirect needs a relay of that one address, and whoever is sent there may also go there. */
  redirects({ family }: FamilyPicture, { policies }: FamilyGoverned): void {
    for (const { decided, networks } of policies) {
      if (decided.to === null) continue
      const clients = networks.reduce<Ranges>((all, network) => union(all, [rangeOf(network)]), NONE)
      this.submit(decided.unit, family, [rangeOf(decided.to)], clients)
    }
  }

  sender(unit: Unit, family: Family, sources: Ranges): void {
    const plan = this.#senders.get(unit) ?? this.#new(unit)
    this.#senders.set(unit, plan)
    plan.addresses[family] = union(plan.addresses[family], sources)
  }

  submit(unit: Unit, family: Family, addresses: Ranges, clients: Ranges | null): void {
    const key = `${family} ${addresses.map(({ first, last }) => `${first}-${last}`).join()}`
    let plan = this.#submitted.get(key) ?? this.#sending(family, addresses)
    if (plan === undefined) {
      plan = this.#new(unit)
      this.#submitted.set(key, plan)
      plan.addresses[family] = addresses
    } else if (!plan.units.includes(unit)) plan.units.push(unit)
    const before = plan.clients[family]
    plan.clients[family] = clients === null || before === null ? null : union(before, clients)
  }

  #sending(family: Family, addresses: Ranges): RelayPlan | undefined {
    return [...this.#senders.values()].find((one) => {
      this.#budget.pay(1)
      return equal(one.addresses[family], addresses)
    })
  }

  exempt(unit: Unit, nth: number, family: Family, { source, destination }: Product): void {
    const anywhere = isEverything(family, destination)
    const key = `${nth} ${anywhere} ${unit.rule.where} ${unit.chain}`
    let plan = this.#exempt.get(key)
    if (plan === undefined || plan.unit !== unit) {
      plan = { unit, sources: { 4: NONE, 6: NONE }, destinations: anywhere ? null : { 4: NONE, 6: NONE } }
      this.#exempt.set(key, plan)
      this.exemptions.push(plan)
    }
    plan.sources[family] = union(plan.sources[family], source)
    if (plan.destinations !== null) {
      plan.destinations[family] = union(plan.destinations[family], destination)
    }
  }

  #new(unit: Unit): RelayPlan {
    const plan: RelayPlan = {
      units: [unit],
      addresses: { 4: NONE, 6: NONE },
      clients: { 4: NONE, 6: NONE },
    }
    this.relays.push(plan)
    return plan
  }
}

class Finder {
  readonly #picture: FamilyPicture
  readonly #governed: FamilyGoverned
  readonly #allowed: readonly Decided[]
  readonly #plans: Plans
  readonly #budget: Budget
  readonly #free: Ranges
  /** What the old rules do not simply let through. */
  readonly #refused: Region
  /** What documents allow already. */
  #done: Region = EMPTY

  constructor(
    picture: FamilyPicture,
    governed: FamilyGoverned,
    allowed: readonly Decided[],
    plans: Plans,
    budget: Budget,
  ) {
    this.#picture = picture
    this.#governed = governed
    this.#allowed = allowed
    this.#plans = plans
    this.#budget = budget
    this.#refused = compact(
      [...picture.blocked.flatMap(({ region }) => region), ...picture.undecided],
      budget,
    )
    this.#free = complement(picture.family, sourcesOf(this.#refused))
    for (const { decided, networks } of governed.policies) {
      if (decided.to === null) continue
      const to = [rangeOf(decided.to)]
      const source = networks.reduce<Ranges>((all, network) => union(all, [rangeOf(network)]), NONE)
      this.#take([{ source, destination: to }])
    }
  }

  senders(): void {
    const { family } = this.#picture
    const { as } = this.#plans
    if (as === 'exemption') return
    for (const { unit, region, specific, written } of this.#allowed) {
      if (!specific || isEverything(family, written[family])) continue
      const anywhere = sourcesOf(region.filter(({ destination }) => isEverything(family, destination)))
      const outside = as === 'relay' ? anywhere : subtract(anywhere, this.#governed.named)
      const addresses = smallOnes(prefixesOf(family, outside))
      if (addresses.length === 0) continue
      const ranges = addresses.reduce<Ranges>((all, prefix) => union(all, [rangeOf(prefix)]), NONE)
      this.#plans.sender(unit, family, ranges)
      this.#take([{ source: ranges, destination: complement(family, NONE) }])
    }
  }

  rest(): void {
    const { family } = this.#picture
    const { governed } = this.#governed
    if (governed.length === 0) return
    const everywhere = complement(family, NONE)
    const counts = new Map<Unit, number>()
    const several = new Set(this.#allowed.map(({ base }) => base)).size > 1
    for (const { unit, region, specific, written } of this.#allowed) {
      const inside = intersectRegions(region, [{ source: governed, destination: everywhere }], this.#budget)
      const left = subtractRegions(inside, this.#done, this.#budget)
      for (const found of left) {
        const product = this.#widened(found, written[family])
        if (specific && this.#isSubmission(product)) {
          const clients = equal(found.source, governed) ? null : product.source
          this.#plans.submit(unit, family, product.destination, clients)
        } else {
          // A chain that two jumps lead to decides twice, each time for others.
          const nth = counts.get(unit) ?? 0
          counts.set(unit, nth + 1)
          this.#plans.exempt(unit, nth, family, product)
        }
      }
      if (several) this.#take(left)
    }
  }

  /** What the rule itself says, without what is blocked of it, where that is the shorter way to write the same. */
  #widened({ source, destination }: Product, written: Ranges): Product {
    const { family } = this.#picture
    const here = [{ source: written, destination }]
    const refused = sourcesOf(intersectRegions(here, this.#refused, this.#budget))
    const wide = subtract(written, refused)
    const shorter = prefixesOf(family, wide).length < prefixesOf(family, source).length
    return shorter ? { source: wide, destination } : { source, destination }
  }

  #isSubmission({ destination }: Product): boolean {
    const { family } = this.#picture
    if (this.#plans.as === 'exemption' || isEverything(family, destination)) return false
    if (subtract(destination, this.#free).length > 0) return false
    const prefixes = prefixesOf(family, destination)
    return prefixes.length <= 256 && prefixes.every(({ length }) => length === addressBits(family))
  }

  #take(region: Region): void {
    const fresh = subtractRegions(region, this.#done, this.#budget)
    this.#done = joinRegions(this.#done, fresh, this.#budget)
  }
}

function smallOnes(prefixes: readonly Prefix[]): Prefix[] {
  return prefixes.filter(({ family, length }) => length >= LONGEST_RELAY[family])
}

/** The prefixes of both families. */
export function bothFamilies(ranges: Readonly<Record<Family, Ranges>>): Prefix[] {
  return FAMILIES.flatMap((family) => prefixesOf(family, ranges[family]))
}

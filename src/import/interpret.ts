/**
 * What the old rules do with everything: each chain followed once with the whole region of sources and destinations,
 * each rule taking away what it decides. First match wins, because what a rule took the next does not see.
 */
import type { Family, Prefix } from '../policy/prefix.ts'
import { complement, EVERYWHERE, everything, intersect, type Space } from './ranges.ts'
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
  wholeRegion,
} from './region.ts'
import {
  type BaseChain,
  basesAt,
  type Context,
  type Firewall,
  heldBy,
  MOST_JUMPS,
  namesPort25,
  type Rule,
} from './rule.ts'
import type { Unit, Units } from './units.ts'

export type Outcome = 'allow' | 'drop' | 'reject' | 'redirect'

/** What one unit of rules decides, whatever else there is. */
export interface Decided {
  readonly unit: Unit
  readonly outcome: Outcome
  /** With redirect. */
  readonly to: Prefix | null
  /** It, or a jump that leads to it, names port 25. */
  readonly specific: boolean
  /** It, or a jump that leads to it, speaks of destinations. */
  readonly aimed: boolean
  readonly region: Region
  /** Sources of the unit itself, whether or not earlier rules had decided about them. */
  readonly written: Space
  /** Counts through all that is decided, so that one can be said to come before another. */
  readonly order: number
  readonly base: BaseChain
}

/** What a unit might decide, if only one knew. */
export interface Doubt {
  readonly unit: Unit
  /** `return` and `unknown` may lead anywhere. */
  readonly outcome: Outcome | 'return' | 'unknown'
  readonly specific: boolean
  readonly region: Region
  /** What it depends on. */
  readonly reasons: readonly string[]
  readonly order: number
  readonly base: BaseChain
}

export interface Interpretation {
  readonly family: Family
  /** In order; regions of blocks and redirects do not overlap. */
  readonly blocked: readonly Decided[]
  /** In order; without what another base chain blocks later. */
  readonly allowed: readonly Decided[]
  readonly doubts: readonly Doubt[]
}

/** Follows the rules for one family under one set of circumstances. */
export function interpret(
  firewall: Firewall,
  units: Units,
  context: Context,
  family: Family,
  budget: Budget,
): Interpretation {
  const walk = new Walk(units, context, family, budget)
  const { hook } = context
  let straight = wholeRegion(family)
  const redirects: Decided[] = []
  for (const base of basesAt(firewall, hook === 'forward' ? 'prerouting' : 'output', 'nat', family)) {
    const { decided } = walk.base(base, straight, false)
    for (const one of decided) {
      if (one.outcome !== 'redirect' || one.to?.family !== family) continue
      redirects.push(one)
      straight = subtractRegions(straight, one.region, budget)
    }
  }
  const blocked: Decided[] = []
  const allowed: Decided[] = []
  let passing = straight
  const blockedRedirects = new Map<Decided, Region>()
  for (const base of basesAt(firewall, hook, 'filter', family)) {
    const { decided, fallen } = walk.base(base, passing, false)
    const blocks = decided.filter(({ outcome }) => outcome === 'drop' || outcome === 'reject')
    const taken = compact(
      blocks.flatMap(({ region }) => region),
      budget,
    )
    passing = subtractRegions(passing, taken, budget)
    // An earlier base chain's accept does not hold against a later one's drop.
    withoutLater(allowed, taken, budget)
    // One by one: there may be more than a call takes arguments.
    for (const block of blocks) blocked.push(block)
    for (const one of decided) if (one.outcome === 'allow') allowed.push(one)
    if (fallen.length > 0) {
      const decision = walk.policy(base, fallen)
      if (decision.outcome === 'allow') allowed.push(decision)
      else {
        blocked.push(decision)
        passing = subtractRegions(passing, fallen, budget)
        withoutLater(allowed, fallen, budget)
      }
    }
    for (const redirect of redirects) {
      const known = blockedRedirects.get(redirect) ?? EMPTY
      const { found, region } = redirectedBlocks(walk, base, redirect, known, budget)
      for (const one of found) blocked.push(one)
      blockedRedirects.set(redirect, joinRegions(known, region, budget))
    }
  }
  for (const redirect of redirects) {
    const region = subtractRegions(redirect.region, blockedRedirects.get(redirect) ?? EMPTY, budget)
    // Who speaks to the relay anyhow is not redirected, but let through.
    const at = BigInt(redirect.to?.address ?? 0)
    const relay = [{ source: everything(family), destination: [{ first: at, last: at }] }]
    allowed.push({ ...redirect, outcome: 'allow', region: intersectRegions(region, relay, budget) })
    const sent = subtractRegions(region, relay, budget)
    if (sent.length > 0) blocked.push({ ...redirect, region: sent })
  }
  return {
    family,
    blocked,
    allowed: allowed.filter(({ region }) => region.length > 0),
    doubts: walk.doubts,
  }
}

function withoutLater(allowed: Decided[], taken: Region, budget: Budget): void {
  for (const [index, one] of allowed.entries()) {
    const region = subtractRegions(one.region, taken, budget)
    if (region !== one.region) allowed[index] = { ...one, region }
  }
}

/** What was redirected meets the filter with its new destination; blocked there, it never was a redirect. */
function redirectedBlocks(
  walk: Walk,
  base: BaseChain,
  redirect: Decided,
  known: Region,
  budget: Budget,
): { found: Decided[]; region: Region } {
  const { to } = redirect
  if (to === null) return { found: [], region: EMPTY }
  const at = BigInt(to.address)
  const rest = subtractRegions(redirect.region, known, budget)
  const bound = [{ source: sourcesOf(rest), destination: [{ first: at, last: at }] }]
  const { decided, fallen } = walk.base(base, bound, true)
  const found: Decided[] = []
  let region = EMPTY
  const last = fallen.length > 0 ? [walk.policy(base, fallen)] : []
  for (const one of [...decided, ...last]) {
    if (one.outcome !== 'drop' && one.outcome !== 'reject') continue
    const sources = sourcesOf(one.region)
    const original = intersectRegions(rest, onlySources(rest, sources), budget)
    region = joinRegions(region, original, budget)
    found.push({ ...one, region: original })
  }
  return { found, region }
}

function onlySources(region: Region, sources: Product['source']): Region {
  return region.flatMap(({ source, destination }) => {
    const part = intersect(source, sources)
    return part.length > 0 ? [{ source: part, destination }] : []
  })
}

interface Path {
  readonly specific: boolean
  readonly aimed: boolean
  readonly depth: number
  /** Not empty: whether the packet gets here at all is not known. */
  readonly reasons: readonly string[]
  readonly source: Space
}

class Walk {
  readonly doubts: Doubt[] = []
  readonly #units: Units
  readonly #context: Context
  readonly #family: Family
  readonly #budget: Budget
  #order = 0
  #decided: Decided[] = []

  constructor(units: Units, context: Context, family: Family, budget: Budget) {
    this.#units = units
    this.#context = context
    this.#family = family
    this.#budget = budget
  }

  /** What a base chain decides of a region, and what falls through to its policy. */
  base(base: BaseChain, region: Region, redirected: boolean): { decided: Decided[]; fallen: Region } {
    this.#decided = []
    const path: Path = { specific: false, aimed: false, depth: 0, reasons: [], source: EVERYWHERE }
    const { through } = this.#chain(base, base.chain, region, redirected, path)
    return { decided: this.#decided, fallen: through }
  }

  policy(base: BaseChain, region: Region): Decided {
    return {
      unit: this.#units.ofPolicy(base),
      outcome: base.policy === 'drop' ? 'drop' : 'allow',
      to: null,
      specific: false,
      aimed: false,
      region,
      written: EVERYWHERE,
      order: this.#order++,
      base,
    }
  }

  #chain(
    base: BaseChain,
    name: string,
    entering: Region,
    redirected: boolean,
    path: Path,
  ): { through: Region } {
    if (path.depth > MOST_JUMPS) return { through: entering }
    let region = entering
    let returned = EMPTY
    for (const unit of this.#units.of(name)) {
      if (region.length === 0) break
      this.#budget.pay(1)
      const { rule } = unit
      const matching = matchOf(rule, this.#context, this.#family, redirected, this.#budget)
      if (matching === null) continue
      const matched = intersectRegions(region, matching.region, this.#budget)
      if (matched.length === 0) continue
      unit.reached = true
      const specific = path.specific || namesPort25(rule)
      const aimed = path.aimed || rule.conditions.some(({ is }) => is === 'destination' || is === 'pairs')
      const reasons = matching.unknown.length > 0 ? [...path.reasons, ...matching.unknown] : path.reasons
      const sure = matching.unknown.length === 0
      const rest = () => (sure ? subtractRegions(region, matched, this.#budget) : region)
      const { action } = rule
      switch (action.do) {
        case 'nothing':
          break
        case 'unknown':
          this.#doubt(base, unit, 'unknown', specific, matched, [...reasons, action.what])
          break
        case 'return':
          if (!sure) this.#doubt(base, unit, 'return', specific, matched, reasons)
          else {
            returned = joinRegions(returned, matched, this.#budget)
            region = rest()
          }
          break
        case 'jump':
        case 'goto': {
          const source = narrowed(path.source, rule)
          const inner = { specific, aimed, depth: path.depth + 1, reasons, source }
          const { through } = this.#chain(base, action.chain, matched, redirected, inner)
          if (!sure) break
          if (action.do === 'goto') {
            returned = joinRegions(returned, through, this.#budget)
            region = rest()
          } else region = joinRegions(rest(), through, this.#budget)
          break
        }
        case 'accept':
        case 'drop':
        case 'reject':
        case 'redirect': {
          const outcome = action.do === 'accept' ? 'allow' : action.do
          if (reasons.length > 0) this.#doubt(base, unit, outcome, specific, matched, reasons)
          else {
            const to = action.do === 'redirect' ? action.to : null
            const written = narrowed(path.source, rule)
            const order = this.#order++
            this.#decided.push({ unit, outcome, to, specific, aimed, region: matched, written, order, base })
          }
          region = rest()
          break
        }
        default:
          action satisfies never
      }
    }
    return { through: joinRegions(region, returned, this.#budget) }
  }

  #doubt(
    base: BaseChain,
    unit: Unit,
    outcome: Doubt['outcome'],
    specific: boolean,
    region: Region,
    reasons: readonly string[],
  ): void {
    const order = this.#order++
    unit.doubted = true
    this.doubts.push({ unit, outcome, specific, region, reasons: [...new Set(reasons)], order, base })
  }
}

/** What a rule matches of a family, or null: nothing. */
function matchOf(
  rule: Rule,
  context: Context,
  family: Family,
  redirected: boolean,
  budget: Budget,
): { region: Region; unknown: readonly string[] } | null {
  const unknown: string[] = []
  let [whole] = wholeRegion(family)
  let pairs: Region | null = null
  for (const condition of rule.conditions) {
    const held = heldBy(condition, context, redirected)
    if (held === false) return null
    if (held === true) continue
    if (condition.is === 'source' || condition.is === 'destination') {
      budget.pay(condition.in[family].length / 10)
    } else if (condition.is === 'pairs') budget.pay(condition.pairs.length * (pairs?.length ?? 1))
    switch (condition.is) {
      case 'source':
        whole = { ...whole!, source: intersect(whole!.source, condition.in[family]) }
        break
      case 'destination':
        whole = { ...whole!, destination: intersect(whole!.destination, condition.in[family]) }
        break
      case 'pairs': {
        const these = condition.pairs.flatMap((pair) =>
          pair.source[family].length === 0 || pair.destination[family].length === 0
            ? []
            : [{ source: pair.source[family], destination: pair.destination[family] }],
        )
        pairs = pairs === null ? these : crossed(pairs, these)
        break
      }
      case 'arrives-by': {
        const { names, not, sources, elsewhere } = condition
        const known = sources?.[family]
        const among =
          known === undefined
            ? complement(family, not ? [] : elsewhere[family])
            : not
              ? complement(family, known)
              : known
        whole = { ...whole!, source: intersect(whole!.source, among) }
        if (known === undefined) unknown.push(`the interface it comes in by (${names.join(', ')})`)
        break
      }
      case 'unknown':
        unknown.push(condition.what)
        break
      default:
    }
  }
  if (whole!.source.length === 0 || whole!.destination.length === 0) return null
  return { region: pairs === null ? [whole!] : compact(crossed([whole!], pairs), budget), unknown }
}

function crossed(a: Region, b: Region): Region {
  return a.flatMap((one) =>
    b.flatMap((other) => {
      const source = intersect(one.source, other.source)
      const destination = intersect(one.destination, other.destination)
      return source.length > 0 && destination.length > 0 ? [{ source, destination }] : []
    }),
  )
}

/** The sources that a rule and the jumps to it speak of. */
function narrowed(space: Space, { conditions }: Rule): Space {
  return conditions.reduce<Space>((sum, condition) => {
    const space =
      condition.is === 'source'
        ? condition.in
        : condition.is === 'arrives-by' && !condition.not
          ? condition.sources
          : null
    return space === null ? sum : { 4: intersect(sum[4], space[4]), 6: intersect(sum[6], space[6]) }
  }, space)
}

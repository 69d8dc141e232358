/**
 * From blocked regions to the networks of policies. Between policies the longest network decides and not the first
 * rule, so a rule's own prefixes are kept only where that comes to the same; else what it really decides is written.
 */
import type { Prefix } from '../policy/prefix.ts'
import { addressBits, truncate } from '../policy/prefix.ts'
import type { Decided } from './interpret.ts'
import type { FamilyPicture } from './picture.ts'
import {
  everything,
  intersect,
  isEverything,
  NONE,
  normalise,
  prefixesOf,
  type Ranges,
  rangeOf,
  size,
  subtract,
  union,
} from './ranges.ts'
import { type Budget, sourcesOf } from './region.ts'

export interface Governed {
  readonly decided: Decided
  readonly networks: readonly Prefix[]
}

export interface FamilyGoverned {
  readonly policies: readonly Governed[]
  /** All sources inside any of the networks. */
  readonly governed: Ranges
  /** Those inside networks that a rule named, and not just everybody. */
  readonly named: Ranges
}

export function govern(picture: FamilyPicture, budget: Budget): FamilyGoverned {
  const { family } = picture
  const assigned = assign(picture, budget)
  const written = new Set<string>()
  const allowed = sourcesOf(picture.allowed.flatMap(({ region }) => [...region]))
  const undecided = sourcesOf(picture.undecided)
  const claimed = normalise(assigned.flatMap(({ sources }) => sources))
  const harmless = subtract(union(allowed, claimed), undecided)
  const pending = new Map<string, Ranges>()
  for (const outcome of ['drop', 'reject', 'redirect']) {
    const of = assigned.filter(({ decided }) => decided.outcome === outcome)
    pending.set(outcome, normalise(of.flatMap(({ sources }) => sources)))
  }
  const policies = assigned.map(({ decided, sources }): Governed => {
    pending.set(decided.outcome, subtract(pending.get(decided.outcome) ?? NONE, sources))
    const otherwise = [...pending].filter(([outcome]) => outcome !== decided.outcome)
    const networks: Prefix[] = []
    const keep = (prefix: Prefix) => {
      const key = keyOf(prefix)
      if (written.has(key)) return
      written.add(key)
      networks.push(prefix)
    }
    for (const prefix of prefixesOf(family, decided.written[family])) {
      budget.pay(1)
      const whole = [rangeOf(prefix)]
      const own = intersect(sources, whole)
      if (own.length === 0) continue
      const extra = subtract(whole, own)
      const kept =
        extra.length === 0 ||
        (subtract(extra, harmless).length === 0 &&
          !hasAncestor(prefix, written) &&
          !otherwise.some(([, others]) => intersect(others, extra).length > 0))
      if (kept) keep(prefix)
      else for (const piece of prefixesOf(family, own)) keep(piece)
    }
    return { decided, networks }
  })
  const all = (list: readonly Governed[]) =>
    normalise(list.flatMap(({ networks }) => networks.map((network) => rangeOf(network))))
  return {
    policies: policies.filter(({ networks }) => networks.length > 0),
    governed: all(policies),
    named: all(policies.filter(({ decided }) => !isEverything(family, decided.written[family]))),
  }
}

/** Each source to one rule: the one that blocks all of its destinations, or else the most of them. */
function assign({ family, blocked }: FamilyPicture, budget: Budget): { decided: Decided; sources: Ranges }[] {
  const parts = blocked.flatMap((decided) =>
    decided.region.map(({ source, destination }) => ({ decided, source, weight: size(destination) })),
  )
  parts.sort((a, b) => (a.weight > b.weight ? -1 : a.weight < b.weight ? 1 : 0))
  let free: Ranges = everything(family)
  const assigned = new Map<Decided, Ranges>()
  for (const { decided, source } of parts) {
    budget.pay(1 + source.length + free.length / 10)
    const sources = intersect(source, free)
    if (sources.length === 0) continue
    free = subtract(free, sources)
    assigned.set(decided, union(assigned.get(decided) ?? NONE, sources))
  }
  return [...assigned]
    .sort(([a], [b]) => a.order - b.order)
    .map(([decided, sources]) => ({ decided, sources }))
}

function hasAncestor(prefix: Prefix, written: ReadonlySet<string>): boolean {
  for (let length = Math.min(prefix.length, addressBits(prefix.family)); length >= 0; length--) {
    if (written.has(keyOf(truncate(prefix, length)))) return true
  }
  return false
}

function keyOf({ address, length }: Prefix): string {
  return `${address.toString(36)}/${length}`
}

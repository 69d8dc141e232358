/** Sets of (source, destination) pairs of one family, as products of address sets that do not overlap. */
import type { Family } from '../policy/prefix.ts'
import { everything, intersect, NONE, normalise, type Ranges, subtract } from './ranges.ts'
import { ImportError } from './remark.ts'

export interface Product {
  readonly source: Ranges
  readonly destination: Ranges
}

export type Region = readonly Product[]

export const EMPTY: Region = Object.freeze([])

export function wholeRegion(family: Family): Region {
  return [{ source: everything(family), destination: everything(family) }]
}

/**
 * How much work one import may be. Every step of the arithmetic is paid for, so that no input, however its rules
 * multiply, keeps a person waiting for more than some seconds.
 */
export class Budget {
  #left: number

  constructor(steps: number) {
    this.#left = steps
  }

  /** @throws ImportError when it is used up */
  pay(steps: number): void {
    this.#left -= steps
    if (this.#left < 0) {
      throw new ImportError(
        'the rules are too entangled to be followed: too many jumps, or too many exceptions',
      )
    }
  }
}

export function intersectRegions(a: Region, b: Region, budget: Budget): Region {
  const found: Product[] = []
  for (const one of a) {
    for (const other of b) {
      budget.pay(1 + Math.min(one.source.length, other.source.length))
      const source = intersect(one.source, other.source)
      if (source.length === 0) continue
      budget.pay(1 + Math.min(one.destination.length, other.destination.length))
      const destination = intersect(one.destination, other.destination)
      if (destination.length > 0) found.push({ source, destination })
    }
  }
  return found
}

export function subtractRegions(a: Region, b: Region, budget: Budget): Region {
  let rest: readonly Product[] = a
  for (const taken of b) {
    const next: Product[] = []
    for (const product of rest) {
      budget.pay(1 + Math.min(product.source.length, taken.source.length) + product.source.length / 10)
      const source = intersect(product.source, taken.source)
      const destination = source.length === 0 ? [] : intersect(product.destination, taken.destination)
      if (destination.length === 0) {
        next.push(product)
        continue
      }
      const beside = subtract(product.source, taken.source)
      if (beside.length > 0) next.push({ source: beside, destination: product.destination })
      const elsewhere = subtract(product.destination, taken.destination)
      budget.pay(source.length + product.destination.length)
      if (elsewhere.length > 0) next.push({ source, destination: elsewhere })
    }
    rest = next
  }
  return rest.length > 1 ? compact(rest, budget) : rest
}

/** Joins disjoint products with the same destinations, so that a thousand rules do not leave a thousand products. */
export function compact(region: Region, budget: Budget): Region {
  const groups = new Map<string | Ranges, Ranges[]>()
  const destinations = new Map<string | Ranges, Ranges>()
  for (const { source, destination } of region) {
    budget.pay(1)
    const key = keyOf(destination)
    const group = groups.get(key)
    if (group !== undefined) group.push(source)
    else {
      groups.set(key, [source])
      destinations.set(key, destination)
    }
  }
  if (groups.size === region.length) return region
  return [...groups].map(([key, sources]) => {
    const ranges = sources.length === 1 ? sources[0]! : normalise(sources.flat())
    if (sources.length > 1) budget.pay(ranges.length / 10)
    return { source: ranges, destination: destinations.get(key)! }
  })
}

const keys = new WeakMap<Ranges, string>()

/** Equal sets have equal keys; long ones only stand for themselves. */
function keyOf(ranges: Ranges): string | Ranges {
  if (ranges.length > 64) return ranges
  const known = keys.get(ranges)
  if (known !== undefined) return known
  const key = ranges.map(({ first, last }) => `${first.toString(36)}-${last.toString(36)}`).join()
  keys.set(ranges, key)
  return key
}

/** Both at once; the regions must not overlap. */
export function joinRegions(a: Region, b: Region, budget: Budget): Region {
  if (a.length === 0) return b
  return b.length === 0 ? a : compact([...a, ...b], budget)
}

/** The sources of all pairs. */
export function sourcesOf(region: Region): Ranges {
  const [first, ...others] = region
  if (first === undefined) return NONE
  return others.length === 0 ? first.source : normalise(region.flatMap(({ source }) => source))
}

/** The regions of several decisions together; they do not overlap. */
export function regionOf(decided: readonly { readonly region: Region }[], budget: Budget): Region {
  return compact(
    decided.flatMap(({ region }) => region),
    budget,
  )
}

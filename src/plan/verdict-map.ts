/**
 * The verdict of every source address there is, as ranges: `decide` for all packets at once. A plan compares two of
 * them; a test holds them against `decide`.
 */
import { AddressRanges, lastOf } from '../policy/address-ranges.ts'
import { type Decision, isInForce, verdictOf } from '../policy/decide.ts'
import type { Model } from '../policy/model.ts'
import { networksInOrder } from '../policy/networks-in-order.ts'
import { addressBits, type Family, type Prefix } from '../policy/prefix.ts'
import { type Address, PrefixSet } from '../policy/prefix-set.ts'

export type Verdict = Decision['verdict']

/** Ascending first addresses of ranges, each with its verdict; together they are the whole address space. */
export interface VerdictMap {
  readonly family: Family
  readonly starts: readonly Address[]
  readonly verdicts: readonly Verdict[]
}

/**
 * What becomes of packets to TCP port 25, by source. Rates count as not used up, and local users as nobody.
 * @param destination a prefix that documents name; null: an address of which no document speaks
 * @param now milliseconds since the epoch
 */
export function verdictMap(
  model: Model,
  family: Family,
  destination: Prefix | null,
  now: number,
): VerdictMap {
  const governed = governedMap(model, family)
  const allowed = AddressRanges.of(allowedSources(model, family, destination, now))
  return overlay(governed, allowed)
}

/** The verdict of one source. */
export function verdictAt({ starts, verdicts }: VerdictMap, source: Address): Verdict {
  let low = 0
  let high = starts.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((starts[middle] ?? 0) <= source) low = middle + 1
    else high = middle
  }
  return verdicts[low - 1] ?? 'ungoverned'
}

/** Steps 2 to 4 of the verdict order: relays, who may submit to them, and exemptions. */
function allowedSources(
  { relays, exemptions }: Model,
  family: Family,
  destination: Prefix | null,
  now: number,
): PrefixSet {
  const everybody: Prefix =
    family === 4 ? { family, address: 0, length: 0 } : { family, address: 0n, length: 0 }
  const found: PrefixSet[] = []
  const goesThere = (destinations: PrefixSet) =>
    destination === null ? destinations.has(everybody) : destinations.contains(destination)
  for (const { addresses, clients } of relays) {
    found.push(addresses)
    if (goesThere(addresses)) found.push(clients ?? PrefixSet.of([everybody]))
  }
  for (const exemption of exemptions) {
    const { sources, destinations } = exemption
    if (isInForce(exemption, now) && (destinations === null || goesThere(destinations))) {
      found.push(sources)
    }
  }
  return PrefixSet.union(found)
}

/** Steps 5 and 6: the policy whose network is the longest match, by a walk with a stack of those around. */
function governedMap({ policies }: Model, family: Family): VerdictMap {
  const map = new Builder(family)
  const open: { last: Address; verdict: Verdict }[] = []
  const around = () => open.at(-1)?.verdict ?? 'ungoverned'
  const closeBefore = (address: Address | null) => {
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      if (address !== null && top.last >= address) return
      open.pop()
      map.from(after(top.last), around())
    }
  }
  for (const { network, owner } of networksInOrder(
    policies.map(({ networks }) => networks),
    family,
  )) {
    const policy = policies[owner]
    if (policy === undefined) continue
    closeBefore(network.address)
    const verdict = verdictOf(policy, family)
    map.from(network.address, verdict)
    open.push({ last: lastOf(network), verdict })
  }
  closeBefore(null)
  return map.finish()
}

function overlay({ family, starts, verdicts }: VerdictMap, allowed: AddressRanges): VerdictMap {
  const map = new Builder(family)
  const { first, last } = allowed.rangesOf(family)
  let below: Verdict = 'ungoverned'
  let at = 0
  for (let i = 0; i < first.length; i++) {
    const start = first[i]
    const end = last[i]
    if (start === undefined || end === undefined) break
    for (; at < starts.length && (starts[at] ?? 0) < start; at++) {
      below = verdicts[at] ?? below
      map.from(starts[at] ?? 0, below)
    }
    map.from(start, 'allow')
    for (; at < starts.length && (starts[at] ?? 0) <= after(end); at++) below = verdicts[at] ?? below
    map.from(after(end), below)
  }
  for (; at < starts.length; at++) map.from(starts[at] ?? 0, verdicts[at] ?? below)
  return map.finish()
}

/** Takes ranges in their order; a later word on the same address replaces an earlier one. */
class Builder {
  readonly #family: Family
  readonly #starts: Address[] = []
  readonly #verdicts: Verdict[] = []

  constructor(family: Family) {
    this.#family = family
    this.from(family === 4 ? 0 : 0n, 'ungoverned')
  }

  from(start: Address, verdict: Verdict): void {
    // Behind the last address there is nothing.
    if (BigInt(start) >> BigInt(addressBits(this.#family)) > 0n) return
    const top = this.#starts.length - 1
    if (this.#starts[top] === start) {
      this.#verdicts[top] = verdict
      if (this.#verdicts[top - 1] === verdict) {
        this.#starts.pop()
        this.#verdicts.pop()
      }
    } else if (this.#verdicts[top] !== verdict) {
      this.#starts.push(start)
      this.#verdicts.push(verdict)
    }
  }

  finish(): VerdictMap {
    return { family: this.#family, starts: this.#starts, verdicts: this.#verdicts }
  }
}

function after(address: Address): Address {
  return typeof address === 'number' ? address + 1 : address + 1n
}

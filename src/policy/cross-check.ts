/** Documents held against each other: what each says is sound, and together it is not what somebody meant. */
import { AddressRanges, lastOf } from './address-ranges.ts'
import type { LocatedDocument } from './build-model.ts'
import { isInForce } from './decide.ts'
import { type Diagnostic, type DiagnosticCode, diagnostic } from './diagnostic.ts'
import { cite, type Exemption, type Model, type Named, type Policy, type Relay } from './model.ts'
import { type Network, networksInOrder } from './networks-in-order.ts'
import { addressBits, FAMILIES, type Family, formatPrefix, type Prefix, parsePrefix } from './prefix.ts'
import { PrefixSet, rankOf } from './prefix-set.ts'
import { rememberLast } from './remember-last.ts'
import type { Document } from './schema.ts'
import { shadowedPolicies } from './shadowed-networks.ts'

export interface CrossCheckOptions {
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly outsideInterfaces: readonly string[]
  /** False when the model lacks networks, because something about a policy or a list is wrong. */
  readonly policiesAreWhole: boolean
  /** The documents that the model was built from, in its order. */
  readonly located: (named: Named) => LocatedDocument | undefined
}

/** Prefixes that are looked at before the search for shadowed exemptions gives up: they only cause a warning. */
const MAX_STEPS = 20_000_000

/** Pairs of prefixes with a rate that are held against each other; far more than a kernel could take. */
const MAX_RATED_PAIRS = 4_000_000

/** All that is wrong, doubtful or worth knowing between the documents of a model. */
export function crossCheck(model: Model, options: CrossCheckOptions): Diagnostic[] {
  const check = new Check(model, options)
  check.policies()
  check.relays()
  check.exemptions()
  return check.diagnostics
}

class Check {
  readonly diagnostics: Diagnostic[] = []
  readonly #model: Model
  readonly #options: CrossCheckOptions
  readonly #governed: AddressRanges
  readonly #relays: AddressRanges

  constructor(model: Model, options: CrossCheckOptions) {
    this.#model = model
    this.#options = options
    this.#governed = governedBy(model.policies.map(({ networks }) => networks))
    this.#relays = AddressRanges.of(relayAddresses(model.relays.map(({ addresses }) => addresses)))
  }

  policies(): void {
    const { policies, relays } = this.#model
    // One prefix, one policy: with two, nobody could say which governs.
    const networks = policies.map((policy) => policy.networks)
    const shared = sharedNetworks(networks)
    const disputed = new Set<Policy>()
    for (const policy of policies) {
      for (const network of shared.size > 0 ? policy.networks : []) {
        const text = formatPrefix(network)
        const owner = policies[shared.get(text) ?? -1]
        if (owner === undefined || owner === policy) continue
        const message = `${text} is governed by ${cite('policy', owner)} as well`
        this.#report(policy, 'duplicate-prefix', message, { key: 'networks', prefix: network })
        disputed.add(owner).add(policy)
        break
      }
      // Parts are few: there is one for each length.
      const all = policy.networks.parts.find(({ length }) => length === 0)
      const everyone = all && ({ family: all.family, address: all.addresses[0], length: 0 } as Prefix)
      if (everyone !== undefined && this.#options.outsideInterfaces.length === 0) {
        const message =
          `${formatPrefix(everyone)} governs also who sends mail to this network from the internet; ` +
          'name the interfaces that lead there in firewall.outside_interfaces of the gateway'
        this.#report(policy, 'everyone-governed', message, { key: 'networks', prefix: everyone })
      }
    }
    const shadowed = shadowedBy([...networks, relayAddresses(relays.map(({ addresses }) => addresses))])
    for (const [at, policy] of policies.entries()) {
      // Of whom it is not known who governs it is not said that it is the other.
      if (!shadowed.has(at) || disputed.has(policy)) continue
      const message = `policy ${policy.name} governs nobody: longer networks of other policies, or relays, have all of its addresses`
      this.#report(policy, 'shadowed-policy', message, { key: 'networks' })
    }
  }

  relays(): void {
    for (const relay of this.#model.relays) {
      if (!this.#canBeReached(relay)) {
        const message = `no governed host may submit to relay ${relay.name}: none of its clients is governed, or has an address of its family`
        this.#report(relay, 'unreachable-relay', message, { key: 'clients' })
      }
      const governed = relay.addresses.find((address) => this.#governed.overlaps(address))
      if (governed === null) continue
      const policy = this.#model.policies.find(({ networks }) =>
        AddressRanges.of(networks).overlaps(governed),
      )
      if (policy === undefined) continue
      const message = `${cite('policy', policy)} governs ${formatPrefix(governed)}; as a relay's address it may send all the same`
      this.#report(relay, 'governed-relay', message, { key: 'addresses', prefix: governed })
    }
  }

  /** By somebody for whom it matters: who is not governed may speak to anybody. */
  #canBeReached({ name, addresses, clients }: Relay): boolean {
    const { policies } = this.#model
    if (clients === null || policies.length === 0 || !this.#options.policiesAreWhole) return true
    if (policies.some(({ redirect }) => redirect?.relay === name)) return true
    const families = new Set<Family>(addresses.parts.map(({ family }) => family))
    return [...families].some((family) => this.#governed.overlapsAny(clients, family))
  }

  exemptions(): void {
    const { exemptions } = this.#model
    const rated = new Map<string, Exemption>()
    const shadows = this.#findShadows()
    for (const exemption of exemptions) {
      const { name, sources, rate, expires } = exemption
      const by = shadows.get(exemption)
      if (!isInForce(exemption, this.#options.now)) {
        const since = new Date(expires ?? 0).toISOString()
        const message = `exemption ${name} expired at ${since}`
        this.#report(exemption, 'expired-exemption', message, { key: 'expires' })
      } else if (sources.size > 0 && sources.every((source) => this.#relays.covers(source))) {
        const message = `the sources of exemption ${name} are addresses of relays, which may send in any case`
        this.#report(exemption, 'shadowed-exemption', message, { key: 'sources' })
      } else if (by !== undefined) {
        const message = `${cite('exemption', by)} allows all that exemption ${name} does, as long and without a rate`
        this.#report(exemption, 'shadowed-exemption', message, { key: 'sources' })
      }
      if (this.#isUseless(exemption)) {
        const message = `no policy governs the sources of exemption ${name}, or they have no destination of their family: it does nothing`
        this.#report(exemption, 'useless-exemption', message, { key: 'sources' })
      }
      if (rate !== null) this.#claimRated(exemption, rated)
    }
  }

  #isUseless({ sources, destinations }: Exemption): boolean {
    if (sources.size === 0 || !this.#options.policiesAreWhole) return false
    const families = new Set<Family>(destinations?.parts.map(({ family }) => family) ?? [4, 6])
    return ![...families].some((family) => this.#governed.overlapsAny(sources, family))
  }

  /** The kernel keeps one rate for a pair of prefixes. */
  #claimRated(exemption: Exemption, rated: Map<string, Exemption>): void {
    const pairs = exemption.sources.size * (exemption.destinations?.size ?? 1)
    if (rated.size + pairs > MAX_RATED_PAIRS) return
    for (const source of exemption.sources) {
      for (const destination of exemption.destinations ?? [null]) {
        const to = destination === null ? 'anywhere' : formatPrefix(destination)
        const pair = `${formatPrefix(source)} to ${to}`
        const other = rated.get(pair)
        if (other === undefined) rated.set(pair, exemption)
        else if (other !== exemption) {
          const message = `${cite('exemption', other)} has a rate for ${pair} as well`
          this.#report(exemption, 'conflicting-rates', message, { key: 'rate' })
          return
        }
      }
    }
  }

  /**
   * Which exemption allows all that another does. Every source of a shadowed one is covered, so its first source is:
   * the first sources of all are sorted, and each prefix of each exemption finds those that lie in it; or, where that
   * is less work, each of them is looked up.
   */
  #findShadows(): Map<Exemption, Exemption> {
    const found = new Map<Exemption, Exemption>()
    const { exemptions } = this.#model
    if (exemptions.length < 2) return found
    const order = new Map(exemptions.map((exemption, index) => [exemption, index]))
    const probes = probesOf(exemptions)
    let steps = 0
    const compare = (narrow: Exemption, wide: Exemption) => {
      if (narrow === wide || found.has(narrow)) return
      steps += narrow.sources.size + (narrow.destinations?.size ?? 0)
      if (!isShadowOf(narrow, wide)) return
      // Of two that say the same, the later one is too much.
      const isFirst = (order.get(wide) ?? 0) < (order.get(narrow) ?? 0)
      if (isFirst || !isShadowOf(wide, narrow)) found.set(narrow, wide)
    }
    for (const wide of exemptions) {
      // What a shadowed one allows is allowed by the other as well.
      if (wide.rate !== null || found.has(wide) || !isInForce(wide, this.#options.now)) continue
      for (const narrow of probesWithin(wide.sources, probes)) {
        compare(narrow, wide)
        if (++steps > MAX_STEPS) return found
      }
    }
    return found
  }

  /** Says it where the prefix, or the document that brings it, is written. */
  #report(
    named: Named,
    code: DiagnosticCode,
    message: string,
    { key, prefix }: { key: string; prefix?: Prefix },
  ): void {
    const located = this.#options.located(named)
    const at = located?.source.locate({ pointer: `/${key}${entryOf(located.document, key, prefix)}` })
    this.diagnostics.push(diagnostic(at ?? named.origin, code, message))
  }
}

const relayAddresses = rememberLast((sets: readonly PrefixSet[]) => PrefixSet.union(sets))
const allNetworks = rememberLast((sets: readonly PrefixSet[]) => PrefixSet.union(sets))
const governedBy = (sets: readonly PrefixSet[]) => AddressRanges.of(allNetworks(sets))

/** The last of the sets is the relays'. */
const shadowedBy = rememberLast((sets: readonly PrefixSet[]) =>
  shadowedPolicies(sets.slice(0, -1), sets.at(-1) ?? PrefixSet.of([])),
)

/** The networks that several policies have, as text, each with the place of the first of those policies. */
const sharedNetworks = rememberLast((policies: readonly PrefixSet[]): Map<string, number> => {
  const shared = new Map<string, number>()
  for (const family of policies.length > 1 ? FAMILIES : []) {
    let first: Network | null = null
    for (const one of networksInOrder(policies, family)) {
      const { address, length } = one.network
      if (first?.network.address !== address || first.network.length !== length) first = one
      else if (first.owner !== one.owner) shared.set(formatPrefix(one.network), first.owner)
    }
  }
  return shared
})

/** The entry of a sequence that is this prefix; the sequence when the prefix comes from a list. */
function entryOf(document: Document, key: string, prefix: Prefix | undefined): string {
  const entries = (document as Readonly<Record<string, unknown>>)[key]
  if (prefix === undefined || !Array.isArray(entries)) return ''
  const text = formatPrefix(prefix)
  const index = entries.findIndex((entry: string) => {
    const parsed = parsePrefix(entry)
    return typeof parsed !== 'string' && formatPrefix(parsed) === text
  })
  return index < 0 ? '' : `/${index}`
}

/** The first source of each exemption, by family, in the order of addresses. */
type Probes = Readonly<
  Record<Family, { readonly addresses: readonly (number | bigint)[]; readonly owners: readonly Exemption[] }>
>

function probesOf(exemptions: readonly Exemption[]): Probes {
  const of = (wanted: Family) => {
    const probes = exemptions.flatMap((owner) => {
      const first = owner.sources.find(() => true)
      return first?.family === wanted ? [{ address: first.address, owner }] : []
    })
    probes.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
    return { addresses: probes.map(({ address }) => address), owners: probes.map(({ owner }) => owner) }
  }
  return { 4: of(4), 6: of(6) }
}

function* probesWithin(wide: PrefixSet, probes: Probes): Generator<Exemption> {
  if (wide.size > probes[4].owners.length + probes[6].owners.length) {
    for (const family of FAMILIES) {
      for (const [at, owner] of probes[family].owners.entries()) {
        const address = probes[family].addresses[at]
        if (wide.contains({ family, address, length: addressBits(family) } as Prefix)) yield owner
      }
    }
    return
  }
  for (const prefix of wide) {
    const { addresses, owners } = probes[prefix.family]
    let at = rankOf(addresses, prefix.address)
    // Back over those that start where the prefix does.
    while (at > 0 && addresses[at - 1] === prefix.address) at--
    for (const to = rankOf(addresses, lastOf(prefix)); at < to; at++) {
      const owner = owners[at]
      if (owner !== undefined) yield owner
    }
  }
}

/** Whether the wide one allows all that the narrow one does, for at least as long. */
function isShadowOf(narrow: Exemption, wide: Exemption): boolean {
  if (wide.rate !== null) return false
  if (wide.expires !== null && (narrow.expires === null || narrow.expires > wide.expires)) return false
  return isWithin(narrow.sources, wide.sources) && isWithin(narrow.destinations, wide.destinations)
}

/** null is everything. */
function isWithin(inner: PrefixSet | null, outer: PrefixSet | null): boolean {
  if (outer === null || inner === outer) return true
  if (inner === null) return false
  if (outer.size === 1) return inner.every((prefix) => outer.contains(prefix))
  const ranges = AddressRanges.of(outer)
  return inner.every((prefix) => ranges.covers(prefix))
}

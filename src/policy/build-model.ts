/** Checked documents to a frozen model: references resolved, texts parsed. */
import { type Diagnostic, type DiagnosticCode, diagnostic, type Origin } from './diagnostic.ts'
import { parseDuration, parseRate, parseTimestamp } from './formats.ts'
import {
  DEFAULT_THRESHOLDS,
  type Exemption,
  type Model,
  type Policy,
  type PolicyTest,
  type Redirect,
  type Relay,
  type Thresholds,
} from './model.ts'
import { addressBits, type Family, type Prefix, parsePrefix } from './prefix.ts'
import { PrefixSet } from './prefix-set.ts'
import type { Document, ExemptionDocument, PolicyDocument, RelayDocument, TestDocument } from './schema.ts'
import { suggest } from './suggest.ts'
import type { SourceDocument } from './yaml-source.ts'

export interface LocatedDocument {
  readonly document: Document
  readonly source: SourceDocument
}

/** Source and destination prefixes multiply; beyond this many pairs a document would flood the kernel. */
const MAX_PAIRS = 1_000_000
const MAX_ALL_PAIRS = 4_000_000

/** What sequences of documents became, as long as the documents live. */
const RESOLVED = new WeakMap<readonly string[], { lists: readonly PrefixSet[]; set: PrefixSet }>()

/**
 * Builds the model. `lists` has the prefixes of every list by name. An expired exemption stays in the model: nothing
 * depends on when it was read.
 */
export function buildModel(
  documents: readonly LocatedDocument[],
  lists: ReadonlyMap<string, PrefixSet>,
): { model: Model; diagnostics: readonly Diagnostic[] } {
  const build = new Build(lists)
  const policies: Policy[] = []
  const relays: Relay[] = []
  // Relays first: a policy may name one that stands below it.
  for (const { document, source } of documents) {
    if (document.kind === 'relay') relays.push(build.relay(document, source))
  }
  const exemptions: Exemption[] = []
  const tests: PolicyTest[] = []
  for (const located of documents) {
    build.claimName(located)
    const { document, source } = located
    switch (document.kind) {
      case 'policy':
        policies.push(build.policy(document, source))
        break
      case 'exemption':
        exemptions.push(build.exemption(document, source))
        break
      case 'test':
        tests.push(buildTest(document, source))
        break
      case 'relay':
      case 'list':
        break
      default:
        document satisfies never
    }
  }
  const model: Model = Object.freeze({
    policies: Object.freeze(policies),
    relays: Object.freeze(relays),
    exemptions: Object.freeze(exemptions),
    tests: Object.freeze(tests),
  })
  return { model, diagnostics: build.diagnostics }
}

class Build {
  readonly diagnostics: Diagnostic[] = []
  readonly #lists: ReadonlyMap<string, PrefixSet>
  readonly #names = new Map<string, Origin>()
  readonly #relays = new Map<string, Relay>()
  #pairs = 0
  /** Of each relay, as they are written. */
  readonly #addresses = new Map<string, readonly string[]>()

  constructor(lists: ReadonlyMap<string, PrefixSet>) {
    this.#lists = lists
  }

  claimName({ document, source }: LocatedDocument): void {
    const id = `${document.kind} ${document.name}`
    const first = this.#names.get(id)
    if (first === undefined) this.#names.set(id, source.origin)
    else {
      const message = `there is another ${id} at ${first.file}:${first.line}`
      this.#report(source.locate({ pointer: '/name' }), 'duplicate-name', message)
    }
  }

  policy(document: PolicyDocument, source: SourceDocument): Policy {
    return Object.freeze({
      kind: 'policy',
      name: document.name,
      origin: source.origin,
      networks: this.#resolve(document.networks),
      mode: (document.mode ?? 'enforce') as Policy['mode'],
      action: (document.action ?? 'reject') as Policy['action'],
      redirect: document.redirect_to === undefined ? null : this.#redirect(document.redirect_to, source),
      thresholds: buildThresholds(document.detection),
    })
  }

  /** The relay's first single address of each family: a connection can be sent to an address, not to a network. */
  #redirect(name: string, source: SourceDocument): Redirect | null {
    const at = source.locate({ pointer: '/redirect_to' })
    const relay = this.#relays.get(name)
    if (relay === undefined) {
      const message = `there is no relay ${name}${suggest(name, [...this.#relays.keys()])}`
      this.#report(at, 'dangling-relay', message)
      return null
    }
    const entries = this.#addresses.get(name) ?? []
    const redirect = { relay: name, target4: this.#single(entries, 4), target6: this.#single(entries, 6) }
    if (redirect.target4 === null && redirect.target6 === null) {
      this.#report(at, 'redirect-target', `relay ${name} has no single address to send connections to`)
    }
    return Object.freeze(redirect)
  }

  #single(entries: readonly string[], family: Family): Prefix | null {
    const isSingle = (prefix: Prefix) => prefix.family === family && prefix.length === addressBits(family)
    for (const entry of entries) {
      const prefix = prefixOf(entry)
      if (prefix !== null && isSingle(prefix)) return prefix
      const part = this.#lists.get(entry.slice(1))?.parts.find((one) => one.family === family)
      if (part?.length !== addressBits(family)) continue
      return { family, address: part.addresses[0], length: part.length } as Prefix
    }
    return null
  }

  relay(document: RelayDocument, source: SourceDocument): Relay {
    const addresses = this.#resolve(document.addresses)
    const clients = document.clients === undefined ? null : this.#resolve(document.clients)
    this.#checkPairs(addresses, clients, '/clients', source)
    const users = Object.freeze([...(document.users ?? [])])
    const relay: Relay = Object.freeze({
      kind: 'relay',
      name: document.name,
      origin: source.origin,
      addresses,
      clients,
      users,
    })
    this.#relays.set(relay.name, relay)
    this.#addresses.set(relay.name, document.addresses)
    return relay
  }

  exemption(document: ExemptionDocument, source: SourceDocument): Exemption {
    const sources = this.#resolve(document.sources)
    const destinations = document.destinations === undefined ? null : this.#resolve(document.destinations)
    this.#checkPairs(sources, destinations, '/destinations', source)
    return Object.freeze({
      kind: 'exemption',
      name: document.name,
      origin: source.origin,
      sources,
      destinations,
      rate: document.rate === undefined ? null : parseRate(document.rate),
      expires: document.expires === undefined ? null : parseTimestamp(document.expires),
    })
  }

  /** A sequence that is the same, with lists that are the same, is the same set: what was made of it stays known. */
  #resolve(entries: readonly string[]): PrefixSet {
    // A list that does not exist has been reported where it is named.
    const lists = entries.flatMap((entry) =>
      entry.startsWith('@') ? (this.#lists.get(entry.slice(1)) ?? []) : [],
    )
    const known = RESOLVED.get(entries)
    if (known?.lists.length === lists.length && lists.every((list, index) => list === known.lists[index])) {
      return known.set
    }
    const own = PrefixSet.of(entries.flatMap((entry) => prefixOf(entry) ?? []))
    const set = PrefixSet.union(own.size > 0 ? [own, ...lists] : lists)
    RESOLVED.set(entries, { lists, set })
    return set
  }

  #checkPairs(one: PrefixSet, other: PrefixSet | null, pointer: string, source: SourceDocument): void {
    if (other === null) return
    const pairs = one.size * other.size
    this.#pairs += pairs
    if (pairs > MAX_PAIRS || this.#pairs > MAX_ALL_PAIRS) {
      const limit = pairs > MAX_PAIRS ? MAX_PAIRS : `${MAX_ALL_PAIRS} in all documents together`
      const message = `${one.size} × ${other.size} pairs of prefixes are more than ${limit}`
      this.#report(source.locate({ pointer }), 'too-large', message)
    }
  }

  #report(origin: Origin, code: DiagnosticCode, message: string): void {
    this.diagnostics.push(diagnostic(origin, code, message))
  }
}

/** null: the name of a list. */
function prefixOf(entry: string): Prefix | null {
  const prefix = parsePrefix(entry)
  return typeof prefix === 'string' ? null : prefix
}

function buildThresholds(detection: PolicyDocument['detection'] = {}): Thresholds {
  const otherwise = DEFAULT_THRESHOLDS
  const { spam_bot, slow_bot, scanner, misconfigured, exempt_host, flood } = detection
  const windowOf = (given: { readonly window?: string } | undefined, { window }: { window: number }) =>
    milliseconds(given?.window, window)
  return {
    spamBot: {
      attempts: spam_bot?.attempts ?? otherwise.spamBot.attempts,
      destinations: spam_bot?.destinations ?? otherwise.spamBot.destinations,
      window: windowOf(spam_bot, otherwise.spamBot),
      connections: spam_bot?.connections ?? otherwise.spamBot.connections,
    },
    slowBot: {
      destinations: slow_bot?.destinations ?? otherwise.slowBot.destinations,
      window: windowOf(slow_bot, otherwise.slowBot),
    },
    scanner: {
      destinations: scanner?.destinations ?? otherwise.scanner.destinations,
      window: windowOf(scanner, otherwise.scanner),
    },
    misconfigured: {
      attempts: misconfigured?.attempts ?? otherwise.misconfigured.attempts,
      window: windowOf(misconfigured, otherwise.misconfigured),
    },
    exemptHost: {
      factor: exempt_host?.factor ?? otherwise.exemptHost.factor,
      attempts: exempt_host?.attempts ?? otherwise.exemptHost.attempts,
      destinations: exempt_host?.destinations ?? otherwise.exemptHost.destinations,
      learn: milliseconds(exempt_host?.learn, otherwise.exemptHost.learn),
    },
    flood: {
      sources: flood?.sources ?? otherwise.flood.sources,
      window: windowOf(flood, otherwise.flood),
    },
    resolveAfter: milliseconds(detection.resolve_after, otherwise.resolveAfter),
    reopenWithin: milliseconds(detection.reopen_within, otherwise.reopenWithin),
    ipv6Prefix: detection.ipv6_prefix ?? otherwise.ipv6Prefix,
  }
}

function milliseconds(duration: string | undefined, otherwise: number): number {
  return duration === undefined ? otherwise : (parseDuration(duration) ?? otherwise)
}

function buildTest(document: TestDocument, source: SourceDocument): PolicyTest {
  const expect = document.expect.map((entry, index) =>
    Object.freeze({
      source: parsePrefix(entry.from) as Prefix,
      destination: parsePrefix(entry.to) as Prefix,
      port: entry.port ?? 25,
      user: entry.user ?? null,
      verdict: entry.verdict as PolicyTest['expect'][number]['verdict'],
      origin: source.locate({ pointer: `/expect/${index}` }),
    }),
  )
  return Object.freeze({
    kind: 'test',
    name: document.name,
    origin: source.origin,
    expect: Object.freeze(expect),
  })
}

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
import type { Document, ExemptionDocument, PolicyDocument, RelayDocument, TestDocument } from './schema.ts'
import { suggest } from './suggest.ts'
import type { SourceDocument } from './yaml-source.ts'

export interface LocatedDocument {
  readonly document: Document
  readonly source: SourceDocument
}

/** Source and destination prefixes multiply; beyond this many pairs a document would flood the kernel. */
const MAX_PAIRS = 1_000_000

/**
 * Builds the model. `lists` has the prefixes of every list by name. An expired exemption stays in the model: nothing
 * depends on when it was read.
 */
export function buildModel(
  documents: readonly LocatedDocument[],
  lists: ReadonlyMap<string, readonly Prefix[]>,
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
  readonly #lists: ReadonlyMap<string, readonly Prefix[]>
  readonly #names = new Map<string, Origin>()
  readonly #relays = new Map<string, Relay>()

  constructor(lists: ReadonlyMap<string, readonly Prefix[]>) {
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
    const single = (family: Family) =>
      relay.addresses.find((a) => a.family === family && a.length === addressBits(family)) ?? null
    const redirect = { relay: name, target4: single(4), target6: single(6) }
    if (redirect.target4 === null && redirect.target6 === null) {
      this.#report(at, 'redirect-target', `relay ${name} has no single address to send connections to`)
    }
    return Object.freeze(redirect)
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

  #resolve(entries: readonly string[]): readonly Prefix[] {
    const prefixes: Prefix[] = []
    for (const entry of entries) {
      if (!entry.startsWith('@')) {
        const prefix = parsePrefix(entry)
        if (typeof prefix !== 'string') prefixes.push(prefix)
        continue
      }
      // A list that does not exist has been reported where it is named.
      const list = this.#lists.get(entry.slice(1)) ?? []
      if (entries.length === 1) {
        // A million prefixes are shared, not copied.
        return list
      }
      for (const prefix of list) prefixes.push(prefix)
    }
    return Object.freeze(prefixes)
  }

  #checkPairs(
    one: readonly Prefix[],
    other: readonly Prefix[] | null,
    pointer: string,
    source: SourceDocument,
  ): void {
    const pairs = one.length * (other?.length ?? 1)
    if (other !== null && pairs > MAX_PAIRS) {
      const message = `${one.length} × ${other.length} pairs of prefixes are more than ${MAX_PAIRS}`
      this.#report(source.locate({ pointer }), 'too-large', message)
    }
  }

  #report(origin: Origin, code: DiagnosticCode, message: string): void {
    this.diagnostics.push(diagnostic(origin, code, message))
  }
}

function buildThresholds(detection: PolicyDocument['detection']): Thresholds {
  const { spamBot, misconfigured, resolveAfter, ipv6Prefix } = DEFAULT_THRESHOLDS
  const { spam_bot, misconfigured: client, resolve_after, ipv6_prefix } = detection ?? {}
  return {
    spamBot: {
      attempts: spam_bot?.attempts ?? spamBot.attempts,
      destinations: spam_bot?.destinations ?? spamBot.destinations,
      window: milliseconds(spam_bot?.window, spamBot.window),
    },
    misconfigured: {
      attempts: client?.attempts ?? misconfigured.attempts,
      window: milliseconds(client?.window, misconfigured.window),
    },
    resolveAfter: milliseconds(resolve_after, resolveAfter),
    ipv6Prefix: ipv6_prefix ?? ipv6Prefix,
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

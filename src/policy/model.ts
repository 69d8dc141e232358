/** The checked policy: what every later stage reads. Frozen, free of text to parse, and free of references to resolve. */
import type { Origin } from './diagnostic.ts'
import type { Rate } from './formats.ts'
import type { Prefix } from './prefix.ts'
import type { PrefixSet } from './prefix-set.ts'
import type { Kind } from './schema.ts'

export interface Named {
  readonly name: string
  /** Where the document starts. */
  readonly origin: Origin
}

/** When attempts become an incident; times in milliseconds. docs/detection.md explains what each number means. */
export interface Thresholds {
  readonly spamBot: {
    readonly attempts: number
    readonly destinations: number
    readonly window: number
    /** So many are too many also to a few destinations. */
    readonly connections: number
  }
  readonly slowBot: { readonly destinations: number; readonly window: number }
  readonly scanner: { readonly destinations: number; readonly window: number }
  readonly misconfigured: { readonly attempts: number; readonly window: number }
  readonly exemptHost: {
    readonly factor: number
    readonly attempts: number
    readonly destinations: number
    readonly learn: number
  }
  readonly flood: { readonly sources: number; readonly window: number }
  readonly resolveAfter: number
  readonly reopenWithin: number
  readonly ipv6Prefix: number
}

export const DEFAULT_THRESHOLDS: Thresholds = {
  spamBot: { attempts: 30, destinations: 10, window: 300_000, connections: 200 },
  slowBot: { destinations: 20, window: 86_400_000 },
  scanner: { destinations: 128, window: 3_600_000 },
  misconfigured: { attempts: 5, window: 600_000 },
  exemptHost: { factor: 5, attempts: 200, destinations: 50, learn: 604_800_000 },
  flood: { sources: 2_000, window: 60_000 },
  resolveAfter: 3_600_000,
  reopenWithin: 86_400_000,
  ipv6Prefix: 64,
}

export interface Redirect {
  readonly relay: string
  /** Single addresses of the relay, the first of each family; null: it has none. */
  readonly target4: Prefix | null
  readonly target6: Prefix | null
}

export interface Policy extends Named {
  readonly kind: 'policy'
  readonly networks: PrefixSet
  readonly mode: 'enforce' | 'observe'
  readonly action: 'reject' | 'drop' | 'redirect'
  /** With action redirect: where to; a family without a target is rejected. */
  readonly redirect: Redirect | null
  readonly thresholds: Thresholds
}

export interface Relay extends Named {
  readonly kind: 'relay'
  readonly addresses: PrefixSet
  /** null: everyone. */
  readonly clients: PrefixSet | null
  readonly users: readonly string[]
}

export interface Exemption extends Named {
  readonly kind: 'exemption'
  readonly sources: PrefixSet
  /** null: anywhere. */
  readonly destinations: PrefixSet | null
  readonly rate: Rate | null
  /** Milliseconds since the epoch; null: never. */
  readonly expires: number | null
}

export interface PolicyTest extends Named {
  readonly kind: 'test'
  readonly expect: readonly Expectation[]
}

export interface Expectation {
  readonly source: Prefix
  readonly destination: Prefix
  readonly port: number
  readonly user: string | null
  readonly verdict: 'allow' | 'block' | 'redirect' | 'observe' | 'ungoverned'
  readonly origin: Origin
}

export interface Model {
  readonly policies: readonly Policy[]
  readonly relays: readonly Relay[]
  readonly exemptions: readonly Exemption[]
  readonly tests: readonly PolicyTest[]
}

/** A document as messages name it: `policy residential (residential.yaml:3)`. */
export function cite(kind: Kind, { name, origin }: Named): string {
  return `${kind} ${name} (${origin.file}:${origin.line})`
}

/** The local users whose processes are relays, each once. */
export function relayUsers({ relays }: Model): string[] {
  return [...new Set(relays.flatMap(({ users }) => users))]
}

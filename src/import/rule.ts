/**
 * The common form of nft's and iptables' rules: only what can matter to the first packet of a TCP connection to port
 * 25. Conditions that such a packet always meets are left out; one that it never meets makes the rule unreachable.
 */
import type { Family, Prefix } from '../policy/prefix.ts'
import type { Space } from './ranges.ts'

export type Condition =
  /** Never met by a new connection to port 25; `later`: packets of an established one may meet it. */
  | { readonly is: 'never'; readonly later: boolean }
  | { readonly is: 'source'; readonly in: Space }
  | { readonly is: 'destination'; readonly in: Space }
  /** Concatenations: any of these pairs. */
  | { readonly is: 'pairs'; readonly pairs: readonly Pair[] }
  /** Met, because port 25 is named; `others`: together with other ports. */
  | { readonly is: 'port'; readonly others: boolean }
  /** The interface it leaves by; a name may end in `*`. */
  | { readonly is: 'leaves-by'; readonly names: readonly string[]; readonly not: boolean }
  /**
   * The interface it came in by, of which egress25 knows nothing; `sources`: what the caller says lies behind these,
   * `elsewhere`: behind others.
   */
  | {
      readonly is: 'arrives-by'
      readonly names: readonly string[]
      readonly not: boolean
      readonly sources: Space | null
      readonly elsewhere: Space
    }
  /** The user whose process sends it; met by nobody where packets are forwarded. */
  | { readonly is: 'user'; readonly users: readonly string[]; readonly not: boolean }
  /** Whether its destination was changed before. */
  | { readonly is: 'redirected'; readonly not: boolean }
  /** Something about the packet that egress25 knows nothing of. */
  | { readonly is: 'unknown'; readonly what: string }

export interface Pair {
  readonly source: Space
  readonly destination: Space
}

export type Action =
  | { readonly do: 'accept' | 'drop' | 'return' | 'nothing' }
  /** `tcpReset`: what egress25 does itself. */
  | { readonly do: 'reject'; readonly tcpReset: boolean }
  | { readonly do: 'jump' | 'goto'; readonly chain: string }
  | { readonly do: 'redirect'; readonly to: Prefix }
  /** It may decide, and nobody here knows how. */
  | { readonly do: 'unknown'; readonly what: string }

export interface Rule {
  /** For messages: `line 12`, or family, table, chain and handle. */
  readonly where: string
  /** As people write it. */
  readonly text: string
  readonly comment: string | null
  readonly conditions: readonly Condition[]
  readonly action: Action
}

export interface Chain {
  /** As people call it. */
  readonly name: string
  readonly rules: readonly Rule[]
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'

/** Where the kernel begins. */
export interface BaseChain {
  /** Key into `chains`. */
  readonly chain: string
  readonly families: readonly Family[]
  readonly hook: Hook
  readonly type: 'filter' | 'nat'
  /** Lower ones come first. */
  readonly priority: number
  readonly policy: 'accept' | 'drop'
  readonly where: string
  /** What it says of itself: `policy drop`. */
  readonly text: string
}

export interface Firewall {
  readonly chains: ReadonlyMap<string, Chain>
  readonly bases: readonly BaseChain[]
}

/** Under which circumstances the rules are followed: what egress25 sees by other means than addresses. */
export interface Context {
  readonly hook: 'forward' | 'output'
  /** The interface the packet leaves by; null: one that no rule names. */
  readonly leavesBy: string | null
  /** The user who sends it; null: one whom no rule names. Only in the hook output. */
  readonly user: string | null
}

/** Whether a rule names port 25, so that it was made for mail. */
export function namesPort25({ conditions }: Pick<Rule, 'conditions'>): boolean {
  return conditions.some(({ is }) => is === 'port')
}

/** Whether the circumstances alone decide a condition; null: they say nothing about it. */
export function heldBy(condition: Condition, context: Context, redirected: boolean): boolean | null {
  switch (condition.is) {
    case 'never':
      return false
    case 'port':
      return true
    case 'leaves-by':
      return condition.names.some((name) => isInterface(name, context.leavesBy)) !== condition.not
    case 'arrives-by':
      // What this machine makes itself came in by none, and nothing that is forwarded came from itself.
      if (context.hook === 'output') return condition.not ? null : false
      return condition.names.every((name) => name === 'lo') ? condition.not : null
    case 'user':
      // A forwarded packet has no user, so that neither a name nor its negation is met.
      if (context.hook === 'forward') return false
      return (context.user !== null && condition.users.includes(context.user)) !== condition.not
    case 'redirected':
      return redirected !== condition.not
    default:
      return null
  }
}

function isInterface(written: string, actual: string | null): boolean {
  if (actual === null) return written === '*'
  return written.endsWith('*') ? actual.startsWith(written.slice(0, -1)) : written === actual
}

/** The base chains a packet meets at a hook, in order; those of one priority as they were listed. */
export function basesAt(
  firewall: Firewall,
  hook: Hook,
  type: BaseChain['type'],
  family: Family,
): readonly BaseChain[] {
  return firewall.bases
    .filter((base) => base.hook === hook && base.type === type && base.families.includes(family))
    .sort((a, b) => a.priority - b.priority)
}

/** How deep jumps are followed: the kernel itself allows 16 levels. */
export const MOST_JUMPS = 32

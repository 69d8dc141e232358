/**
 * The compiled form of all documents: plain objects that say what the table holds, in the terms of this firewall.
 * How nft spells it is the business of the folder `nft` alone.
 *
 * A ruleset is a pure function of the model and the gateway's options. It has no relative times in it, so the same
 * documents give the same ruleset whenever it is compiled, and two rulesets can be compared.
 */
import type { Rate } from '../policy/formats.ts'
import type { Family, Prefix } from '../policy/prefix.ts'

export interface Ruleset {
  readonly tables: readonly LookupTable[]
  readonly learned: readonly LearnedSet[]
  readonly totals: readonly Total[]
  readonly chains: readonly Chain[]
}

/** What a look-up compares: source, destination or both, cut to these lengths; null: not looked at. */
export interface LookupKey {
  readonly family: Family
  readonly source: number | null
  readonly destination: number | null
}

/**
 * A hash set of prefixes of one length (or pair of lengths), or a map from them to chains. Interval
 * sets would hold all lengths in one, but cost a read-back of everything for each element that is added.
 */
export interface LookupTable {
  readonly name: string
  readonly key: LookupKey
  readonly isMap: boolean
  /** What the documents bring to it; of two that have the same key in a map, the later one stands. */
  readonly parts: readonly TablePart[]
  /** How a target is reached: a jump may come back and go on with the next look-up, a goto does not. */
  readonly via: 'jump' | 'goto'
}

/** Shared by all rulesets that have it, and never changed. */
export interface TablePart {
  /** Ascending and distinct: addresses, or source and destination side by side in one number. */
  readonly keys: Keys
  /** The chain that they lead to; null in a plain set. */
  readonly target: string | null
}

export type Key = number | bigint

/** IPv4 look-ups by one address fit 32 bits, and there may be millions of them; all others are bigints. */
export type Keys = Uint32Array | readonly bigint[]

/** A set that the kernel fills by itself as packets arrive; never emptied by an apply. */
export interface LearnedSet {
  readonly name: string
  readonly family: Family
  /** Limits are of a source, or of each local user who sends from it. */
  readonly holds: 'counter' | 'limit' | 'limit-by-user'
  /** Most elements. */
  readonly size: number
  /** Seconds since its last packet after which an element is forgotten. */
  readonly timeout: number
}

/** A counter: one element of the set of totals, found by its id. */
export interface Total {
  readonly id: number
  readonly what: TotalOf
}

export type TotalOf =
  | { readonly of: 'attempts'; readonly policy: string; readonly verdict: 'block' | 'redirect' | 'observe' }
  | { readonly of: 'allowed'; readonly because: 'relay' | 'exemption' }
  /** Attempts handed to the event log; the rest were above its limit. */
  | { readonly of: 'logged' }
  /** The same of what is allowed, which has limits of its own. */
  | { readonly of: 'logged-allowed' }

export interface Chain {
  readonly name: string
  readonly base: BaseChain | null
  readonly rules: readonly Rule[]
}

export interface BaseChain {
  readonly type: 'filter' | 'nat'
  readonly hook: 'forward' | 'output' | 'prerouting'
  readonly priority: number
}

/** Packets per second, and how many at once after a quiet time. */
export interface Limit {
  readonly perSecond: number
  readonly burst: number
}

export type Rule =
  /**
   * Port 25 of any protocol goes to the chain, which begins with `tcp-only`; everything else leaves. So what is not for
   * port 25, which is nearly everything, is asked one question and not two.
   */
  | { readonly rule: 'port-25'; readonly chain: string }
  /** What has other things than ports, or the ports of another protocol, leaves. */
  | { readonly rule: 'tcp-only' }
  /** What leaves through other interfaces than these is not outbound. */
  | { readonly rule: 'not-leaving-by'; readonly interfaces: readonly string[] }
  /** The same before routing: asks which way it would go. */
  | { readonly rule: 'not-routed-by'; readonly interfaces: readonly string[] }
  /** Before routing: what is for this machine itself is not outbound. */
  | { readonly rule: 'to-this-machine' }
  /** Changes the destination to this address; the port stays. */
  | { readonly rule: 'send-to'; readonly to: Prefix }
  /** What had its destination changed visits the chain. */
  | { readonly rule: 'diverted'; readonly chain: string }
  | { readonly rule: 'bound-for'; readonly to: Prefix; readonly chain: string }
  /**
   * A fragment that is not the first has no ports. The kernel takes bytes of it for some all the same, of its payload in
   * IPv4 and of its flow label in IPv6 (seen in 6.18), so it may have come here by mistake.
   */
  | { readonly rule: 'later-fragment'; readonly family: Family }
  /** What stays on this machine is not outbound. */
  | { readonly rule: 'loopback' }
  | { readonly rule: 'goto'; readonly chain: string }
  /** Packets made by processes of these users. */
  | { readonly rule: 'users'; readonly uids: readonly number[]; readonly chain: string }
  /** Packets made by any process; the rest is the kernel's own. */
  | { readonly rule: 'any-user'; readonly chain: string }
  /** A key that is in the plain set goes to the chain. */
  | { readonly rule: 'in-set'; readonly table: string; readonly key: LookupKey; readonly chain: string }
  /** A key that is in the map takes the verdict of its target: `jump` comes back, `goto` does not. */
  | { readonly rule: 'by-map'; readonly table: string; readonly key: LookupKey }
  /** From this time on (seconds since the epoch) the rest of the chain is not for the packet. */
  | { readonly rule: 'until'; readonly time: number }
  /** What can open no connection, because it has no SYN or has an ACK, goes to the chain. */
  | { readonly rule: 'not-first'; readonly chain: string }
  /** Sources below the rate go to the chain. Written so that a full set means "above". */
  | {
      readonly rule: 'below-rate'
      readonly set: string
      readonly family: Family
      readonly rate: Rate
      readonly chain: string
    }
  /** A connection's first packet visits the chain and comes back. */
  | { readonly rule: 'first'; readonly chain: string }
  | { readonly rule: 'count-first'; readonly id: number }
  | { readonly rule: 'count'; readonly id: number }
  | { readonly rule: 'count-source'; readonly set: string; readonly family: Family; readonly length: number }
  /**
   * Counts what came of connections, for a report on who sends mail: data that was sent, ends of what had been answered,
   * and data that was received. By flags alone: asking conntrack would turn it on for all packets of the machine.
   */
  | {
      readonly rule: 'count-evidence'
      readonly what: 'sent' | 'closed' | 'received'
      readonly set: string
      readonly family: Family
      readonly length: number
      /** Only what leaves by other interfaces than these; empty: everything. */
      readonly notLeavingBy: readonly string[]
    }
  /**
   * A source, or one local user of it, beyond the limit leaves the chain. Written so that a full set lets it stay: in a flood from forged addresses
   * what is told is then a sample of all that comes, and who stands out of it can be found.
   */
  | {
      readonly rule: 'mute'
      readonly set: string
      readonly family: Family
      readonly length: number
      /** Each local user of the source has a limit of their own. */
      readonly byUser: boolean
      readonly limit: Limit
    }
  /** Hands the packet to the event log, up to a limit for all sources together, and counts what it handed over. */
  | {
      readonly rule: 'log'
      readonly family: Family
      readonly overall: Limit
      readonly countedAs: number
      readonly prefix: string
      readonly group: number
    }
  | { readonly rule: 'verdict'; readonly verdict: 'accept' | 'drop' | 'reset' }

/** One attempt in detail: what the kernel told of one packet. */
import type { Prefix } from '../policy/prefix.ts'

export interface Attempt {
  /** When the kernel's record reached us, in milliseconds since the epoch. */
  readonly time: number
  readonly source: Prefix
  readonly sourcePort: number
  readonly destination: Prefix
  /** The policy that decided; null for what a relay or an exempt host may do. */
  readonly policy: string | null
  readonly verdict: Verdict
  /** Why it was allowed; null when it was not. */
  readonly because: 'relay' | 'exemption' | null
  /** The network interface by which it came in; null for a packet made on this machine, or where nothing tells. */
  readonly interface: string | null
  /** The local user whose process made the packet; null for a forwarded one. */
  readonly uid: number | null
  /** The sender's hardware address, where the packet came over Ethernet. */
  readonly mac: string | null
}

/** What became of it; what is allowed is counted all the same: a relay that fans out is news. */
export type Verdict = 'block' | 'redirect' | 'observe' | 'allow'

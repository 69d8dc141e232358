/** One attempt in detail: what the kernel told of one packet. */
import type { Prefix } from '../policy/prefix.ts'

export interface Attempt {
  /** When the kernel's record reached us, in milliseconds since the epoch. */
  readonly time: number
  readonly source: Prefix
  readonly sourcePort: number
  readonly destination: Prefix
  readonly policy: string
  readonly verdict: 'block' | 'redirect' | 'observe'
  /** The local user whose process made the packet; null for a forwarded one. */
  readonly uid: number | null
  /** The sender's hardware address, where the packet came over Ethernet. */
  readonly mac: string | null
}

/** What of a packet is compared or looked up (nft(8), "PAYLOAD EXPRESSIONS"). */
import { format4, format6, mask4, mask6 } from '../../policy/prefix.ts'
import type { LookupKey } from '../ruleset.ts'

/** Behind an address: and the local user whose process made the packet. */
export const USER = ' . meta skuid'

export function lookup({ family, source, destination }: LookupKey): string {
  return [
    ...(source === null ? [] : [masked(family, 'saddr', source)]),
    ...(destination === null ? [] : [masked(family, 'daddr', destination)]),
  ].join(' . ')
}

export function masked(family: 4 | 6, field: string, length: number): string {
  if (length === (family === 4 ? 32 : 128)) return address(family, field)
  return `${address(family, field)} & ${family === 4 ? format4(mask4(length)) : format6(mask6(length))}`
}

export function address(family: 4 | 6, field: string): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${field}`
}

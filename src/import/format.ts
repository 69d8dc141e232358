/** What kind of text an input is, by its look. */
import { ImportError } from './remark.ts'

export const FORMATS = ['nft', 'iptables', 'relays'] as const
export type Format = (typeof FORMATS)[number]

/** @throws ImportError for nft's own language, which only nft reads, and for an empty text */
export function detectFormat(text: string): Format {
  const start = text.slice(0, 1_000_000)
  if (start.trim() === '') throw new ImportError('the input is empty')
  if (/^\s*[{[]/.test(start)) return 'nft'
  if (
    /^(?:\*[a-z]+|:[A-Z]+ [A-Z-]+(?: \[\d+:\d+\])?|(?:\[\d+:\d+\] )?-[AIN] \S+|create \S+ \S+)\s*$|^(?:create \S+ |-A \S+ )/m.test(
      start,
    )
  ) {
    return 'iptables'
  }
  if (
    /^\s*(?:#!\/\S*nft|table (?:ip6?|inet|bridge|arp|netdev) |(?:add|flush) (?:table|ruleset|rule|chain)\b)/m.test(
      start,
    )
  ) {
    throw new ImportError(
      'this is nft\'s own language, which only nft reads: load it, and give what "nft -j list ruleset" prints',
    )
  }
  return 'relays'
}

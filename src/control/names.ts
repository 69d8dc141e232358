/** Asks the configured resolver for the name of an address, and whether that name leads back to it. */
import { Resolver } from 'node:dns/promises'
import { formatAddress, type Prefix, parseAddress } from '../policy/prefix.ts'
import { findUnseen } from '../policy/unseen.ts'
import type { NameEvidence } from '../report/evidence.ts'

export type NameLookup = (address: Prefix) => Promise<NameEvidence | null>

/** Milliseconds for one question, asked once. */
const TIMEOUT = 2_000
/** Of one address; names beyond are not looked at. */
const MOST_NAMES = 5
const LONGEST_NAME = 253

/** null as an answer: the resolver does not answer. `server` is an address, with a port or without (RFC 3986 form). */
export function openNames(server: string): NameLookup {
  return async (address) => {
    const resolver = new Resolver({ timeout: TIMEOUT, tries: 1 })
    resolver.setServers([server])
    try {
      const names = (await resolver.reverse(formatAddress(address))).filter(isName).slice(0, MOST_NAMES)
      for (const ptr of names) {
        const found = await (address.family === 4 ? resolver.resolve4(ptr) : resolver.resolve6(ptr)).catch(
          () => [],
        )
        if (found.some((text) => parseAddress(text)?.address === address.address))
          return { ptr, confirmed: true }
      }
      return { ptr: names[0] ?? null, confirmed: false }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      return code === 'ENOTFOUND' || code === 'ENODATA' ? { ptr: null, confirmed: false } : null
    }
  }
}

/** Whoever runs the reverse zone chooses what is in it. */
function isName(name: string): boolean {
  return name.length <= LONGEST_NAME && /^[\x21-\x7e]+$/.test(name) && findUnseen(name) === null
}

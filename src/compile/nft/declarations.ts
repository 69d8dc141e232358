/** Sets, maps and chains as they are declared, without what is in them (nft(8), "SETS", "MAPS", "CHAINS"). */
import type { BaseChain, LearnedSet, LookupTable } from '../ruleset.ts'
import { address, USER } from './fields.ts'

export function tableType({ key, isMap }: LookupTable): string {
  const source = address(key.family, 'saddr')
  const both = key.source !== null && key.destination !== null
  return `${typeOf(both ? `${source} . ${address(key.family, 'daddr')}` : source)}${isMap ? ' : verdict' : ''}`
}

/**
 * By an example of what is looked up, not by the name of its type: nft 1.1.3 writes names into the kernel in a way on
 * which nft 1.0.6 dies (SIGSEGV), whatever it is asked, even to delete the table.
 */
export function typeOf(example: string): string {
  return `typeof ${example}`
}

export function learnedProperties({ family, holds, size, timeout }: LearnedSet): string[] {
  return [
    typeOf(`${address(family, 'saddr')}${holds === 'limit-by-user' ? USER : ''}`),
    `size ${size}`,
    'flags dynamic,timeout',
    ...(holds === 'counter' ? ['counter'] : []),
    `timeout ${timeout}s`,
  ]
}

export function hook({ type, hook, priority }: BaseChain): string {
  return `type ${type} hook ${hook} priority ${priority}; policy accept`
}

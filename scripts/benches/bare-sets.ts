// The reference for loading: the same prefixes in hash sets and nothing else, as one would write them by hand for nft.

/** Elements in one command, as many as nft takes with ease. */
const BATCH = 10_000

/** A script for `nft -f`: a table with a set for each prefix length, and no rules. */
export function bareSets(prefixes: readonly string[]): string {
  const byLength = new Map<string, string[]>()
  for (const prefix of prefixes) {
    const [address = '', length = '32'] = prefix.split('/')
    const addresses = byLength.get(length) ?? []
    addresses.push(address)
    byLength.set(length, addresses)
  }
  const sets = [...byLength.keys()].map((length) => `set m${length} { type ipv4_addr; }\n`)
  const commands = [`table inet bare {\n${sets.join('')}}\n`]
  for (const [length, addresses] of byLength) {
    for (let at = 0; at < addresses.length; at += BATCH) {
      const batch = addresses.slice(at, at + BATCH).join(', ')
      commands.push(`add element inet bare m${length} { ${batch} }\n`)
    }
  }
  return commands.join('')
}

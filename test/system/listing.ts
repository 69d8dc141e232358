/** Our table as nft lists it, without what may differ between two tables of the same ruleset. */

/** Its blocks (sets, maps, chains), each with its elements in order; no counters, sizes, or ways by which it came. */
export function normalListing(listing: string): string[] {
  // How much room a set has is no part of what it is.
  const blocks =
    listing.replace(/^\t\tsize \d+\n(?=\t\telements)/gm, '').match(/^\t(?:set|map|chain) .*?^\t}/gms) ?? []
  // By which way it came there, neither.
  return blocks
    .filter((block) => !/^\t(?:map applied|set era-)/.test(block))
    .map(normalBlock)
    .sort()
}

function normalBlock(block: string): string {
  return block.replace(/\n\t\telements = \{(.*?)\}/s, (_, elements: string) => {
    if (/flags dynamic/.test(block)) return ''
    const sorted = elements.split(',').map((element) => element.trim().replace(/\s+/g, ' '))
    return `\n\t\telements = { ${sorted.sort().join(', ')} }`
  })
}
